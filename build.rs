//! Compiles the protobuf messages without a system `protoc`.

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
}
