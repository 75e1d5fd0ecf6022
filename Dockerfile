FROM quay.io/astronomer/astro-runtime:12.7.1
# Of each of a task's threads glibc would keep freed memory apart, up to 100 MB in all: docs/performance.md.
ENV MALLOC_ARENA_MAX=2
