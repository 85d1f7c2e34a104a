# Corelane in an image without a shell: the program, the libraries it is linked with, and a user. deploy/README.md has
# the lines to build and run it.
#
# The same sources and the same base image give the same files. To hold the base, name it by digest:
#   --build-arg RUST_IMAGE=rust@sha256:...

ARG RUST_IMAGE=rust:1.95.0-slim-bookworm

FROM ${RUST_IMAGE} AS build
# The toolchain of the image, not one that rustup would fetch for rust-toolchain.toml.
ARG RUSTUP_TOOLCHAIN=1.95.0
ARG SOURCE_DATE_EPOCH=0
ARG FEATURES=
WORKDIR /src
COPY . .
# Names of functions stay for backtraces, lines of sources go.
RUN CARGO_PROFILE_RELEASE_STRIP=debuginfo \
    cargo build --release --locked --package corelane --bin corelane --features "${FEATURES}"
RUN set -eu; \
    install -D --mode=0755 target/release/corelane /image/usr/local/bin/corelane; \
    ldd target/release/corelane | grep -o '/[^ ]*' | while read -r lib; do \
        install -D --mode=0755 "$(readlink -f "$lib")" "/image$lib"; \
    done; \
    mkdir -p /image/etc/corelane /image/run/corelane /image/tmp; \
    chmod 1777 /image/tmp; \
    chown 65532:65532 /image/run/corelane; \
    echo 'corelane:x:65532:65532:Corelane:/:/nonexistent' >/image/etc/passwd; \
    echo 'corelane:x:65532:' >/image/etc/group; \
    find /image -depth -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# `corelane health` gives up after 2 s by itself. It asks the address of CORELANE_LISTEN, or port 8080.
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 CMD ["/usr/local/bin/corelane", "health"]
ENTRYPOINT ["/usr/local/bin/corelane"]
