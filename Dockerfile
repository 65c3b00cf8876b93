# A node's image: the static binary and nothing else. `scripts/build-image.sh` builds the binary
# with the Cargo of this machine, puts it below target/image, and then builds this image, so that no
# other image is pulled. If a Rust image is available, Dockerfile.builder needs no Cargo on the
# machine.
FROM scratch
COPY target/image/fluxgate /fluxgate
# Empty, and owned by the node's user: a new volume takes its owner from here.
COPY --chown=65532:65532 target/image/data /data
USER 65532:65532
VOLUME ["/data"]
# Gateways, administrators, other nodes.
EXPOSE 7101 7201 7301
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
  CMD ["/fluxgate", "healthcheck", "--url", "http://127.0.0.1:7101"]
ENTRYPOINT ["/fluxgate"]
CMD ["serve", "--config", "/etc/fluxgate/node.toml"]
