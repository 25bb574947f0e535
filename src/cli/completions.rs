//! `podswell completions`: from the same definition as the parser, so they cannot drift.

use clap::Args;
use clap_complete::Shell;

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn script(args: &CompletionsArgs, command: &mut clap::Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "podswell", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
