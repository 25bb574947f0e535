//! Compiles the protobuf messages and the gRPC service without a system `protoc`.

fn main() {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "controller")]
    compile_protos();
}

#[cfg(feature = "controller")]
#[expect(clippy::expect_used, reason = "a build script can only stop")]
fn compile_protos() {
    let files = protox::compile(["stat.proto"], ["proto"]).expect("compile proto/stat.proto");
    prost_build::Config::new().compile_fds(files).expect("generate code for proto/stat.proto");
    let files = protox::compile(["externalscaler.proto"], ["proto"])
        .expect("compile proto/externalscaler.proto");
    // What the reflection service shows to tools such as grpcurl.
    let folder = std::env::var_os("OUT_DIR").expect("cargo names OUT_DIR");
    let descriptors = std::path::Path::new(&folder).join("externalscaler.bin");
    let bytes = protox::prost::Message::encode_to_vec(&files);
    std::fs::write(descriptors, bytes).expect("write the descriptors of externalscaler.proto");
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .codec_path("crate::servers::keda::codec::SmallCodec")
        // A trigger is looked up by what KEDA sends of it.
        .type_attribute("externalscaler.ScaledObjectRef", "#[derive(Eq, Hash)]")
        .type_attribute("externalscaler.GetMetricsRequest", "#[derive(Eq)]")
        .compile_fds(files)
        .expect("generate code for proto/externalscaler.proto");
}
