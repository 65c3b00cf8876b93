# The same image, with the binary built in a Rust image, which is pulled:
#
#   docker build -f Dockerfile.builder -t fluxgate .
#
# Another image: --build-arg BUILDER=registry.example/rust:1.95. The checks do not cover this file,
# because they pull nothing.
ARG BUILDER=rust:1.95-bookworm
FROM ${BUILDER} AS builder
WORKDIR /source
COPY . .
RUN ["scripts/build-image.sh", "--binary-only", "--into", "/image"]

FROM scratch
COPY --from=builder /image/fluxgate /fluxgate
COPY --from=builder --chown=65532:65532 /image/data /data
USER 65532:65532
VOLUME ["/data"]
EXPOSE 7101 7201 7301
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
  CMD ["/fluxgate", "healthcheck", "--url", "http://127.0.0.1:7101"]
ENTRYPOINT ["/fluxgate"]
CMD ["serve", "--config", "/etc/fluxgate/node.toml"]
