//! The `podswell` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Exactly one TLS implementation, chosen before anything opens a connection. The only error is that
    // one is installed already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    podswell::cli::main()
}
