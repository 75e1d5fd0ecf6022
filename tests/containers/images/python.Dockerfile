# Stand-in for Docker's own image of Python 3.11 on Debian 12, from Debian's packages.
ARG DEBIAN
FROM ${DEBIAN}

RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /usr/local
CMD ["python3"]
