# A static binary and the public certificate authorities in an empty image: no shell, no libc, no root.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache ca-certificates musl-dev
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY deploy deploy
COPY src src
# A Rust target of musl links statically by default.
RUN cargo build --release --locked --bin podswell && cp target/release/podswell /podswell

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /podswell /podswell
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/podswell"]
CMD ["run"]
