# rust-lb alone: `docker build -t rust-lb .`, `podman build --format docker -t rust-lb .` (OCI images have no HEALTHCHECK).
#
#   docker run --network host -v /pv/CERTS:/pv/CERTS -v /var/lib/rust-lb:/var/lib/rust-lb --user 0 rust-lb
#
# It runs as 10001, who owns /var/lib/rust-lb. Ports below 1024 it may have in a network of its own (Docker lets everybody); on the
# host's, and where certificates are readable by root alone as in HinD's /pv/CERTS, say `--user 0 --cap-drop all
# --cap-add net_bind_service`. Any user may have the low ports of a host with `sysctl net.ipv4.ip_unprivileged_port_start=80`.

# What it is built with: Rust and a C compiler; and what it runs on: any glibc that is not older than that one's.
ARG BUILD_IMAGE=docker.io/library/rust:1-bookworm
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
# A binary in the build context that is there already, to be taken instead of building one.
ARG BINARY=
# What `rust-lb version` names: `--build-arg COMMIT=$(git rev-parse HEAD)`.
ARG COMMIT=
WORKDIR /src
COPY . .
RUN set -eu; \
    if [ -z "$BINARY" ]; then RUST_LB_COMMIT=${COMMIT:-unknown} cargo build --release --locked; BINARY=target/release/rust-lb; fi; \
    mkdir -p /out/bin /out/state; \
    install -m 0755 "$BINARY" /out/bin/rust-lb

FROM ${BASE_IMAGE}
# The authorities that ACME servers, webhooks and servers behind are verified by; slim images have none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/bin/ /usr/local/bin/
COPY --from=build --chown=10001:10001 /out/state/ /var/lib/rust-lb/
USER 10001:10001
EXPOSE 80 443
# SIGTERM drains for up to 30 s: give `docker stop` more than its 10 (`--stop-timeout 45`).
STOPSIGNAL SIGTERM
# Reads the same file and variables as `serve`; flags behind `serve` it does not see.
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["rust-lb", "healthcheck"]
ENTRYPOINT ["rust-lb"]
CMD ["serve"]
