# Stand-in for the image in the project's Dockerfile, where no registry can be reached: Debian, the machine's own
# Python 3.12 (the build context; Debian 12 has none), Airflow, and what the real image does to a project.
ARG DEBIAN
FROM ${DEBIAN}

RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends \
        libbz2-1.0 libffi8 liblzma5 libreadline8 libsqlite3-0 libssl3 libuuid1 procps tini zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY . /usr/local/
RUN ldconfig && python3.12 -m ensurepip && ln -s python3.12 /usr/local/bin/python && ln -s pip3.12 /usr/local/bin/pip

RUN useradd --uid 50000 --gid 0 --home-dir /usr/local/airflow --create-home astro \
    && install -d -o astro -g 0 -m 775 /usr/local/airflow/logs
ENV AIRFLOW_HOME=/usr/local/airflow PYTHONUNBUFFERED=1
WORKDIR /usr/local/airflow
# The packages of Airflow as the project's lock has them; what requirements.txt adds is today's, as in the real image.
ARG LOCK PACKAGES
COPY --from=lock ${LOCK} /tmp/lock.txt
RUN sed -n '/^[^ ]*==/s/ *\\$//p' /tmp/lock.txt > /tmp/constraints.txt \
    && pip install -q --no-cache-dir --root-user-action ignore -c /tmp/constraints.txt ${PACKAGES} \
    && rm /tmp/lock.txt /tmp/constraints.txt
ENTRYPOINT ["tini", "--"]

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ONBUILD USER root
ONBUILD COPY packages.txt .
ONBUILD RUN if [[ -s packages.txt ]]; then \
        apt-get update && sed 's/#.*//' packages.txt | xargs apt-get install -y --no-install-recommends \
        && rm -rf /var/lib/apt/lists/*; fi
ONBUILD COPY requirements.txt .
ONBUILD RUN if grep -Eqx 'apache-airflow\s*[=~>]{1,2}.*' requirements.txt; then \
        echo 'apache-airflow is the version of the image: change FROM instead' >&2; exit 1; fi; \
        pip install --no-cache-dir --root-user-action ignore -q -r requirements.txt
ONBUILD USER astro
ONBUILD COPY --chown=astro:0 . .
