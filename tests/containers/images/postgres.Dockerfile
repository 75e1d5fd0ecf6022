# Stand-in for Docker's own image of PostgreSQL, from Debian's packages.
ARG DEBIAN
FROM ${DEBIAN}

RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends postgresql \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o postgres -g postgres /var/lib/postgresql/data
USER postgres
ENV PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
# Only the user and the database of POSTGRES_USER and POSTGRES_PASSWORD are made, as compose asks for.
CMD bin=$(echo /usr/lib/postgresql/*/bin) \
    && if [ ! -e $PGDATA/PG_VERSION ]; then \
        echo "$POSTGRES_PASSWORD" > /tmp/password \
        && $bin/initdb --username "$POSTGRES_USER" --pwfile /tmp/password --auth scram-sha-256 \
            --locale C.UTF-8 \
        && echo 'host all all all scram-sha-256' >> $PGDATA/pg_hba.conf; fi \
    && exec $bin/postgres -c listen_addresses='*'
