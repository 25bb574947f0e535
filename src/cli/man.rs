//! `podswell man`: a manual page for every verb, from the same definition as the parser.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// The directory to write to, which must exist; for example /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes `podswell.1` and `podswell-VERB.1`, and returns their names, one a line.
pub(super) fn pages(args: &ManArgs, command: clap::Command) -> anyhow::Result<String> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let verbs =
        command.get_subcommands().map(|verb| (format!("podswell-{}", verb.get_name()), verb));
    let mut names = String::new();
    for (name, page) in std::iter::once(("podswell".to_owned(), &command)).chain(verbs) {
        let file = args.directory.join(format!("{name}.1"));
        let mut text = Vec::new();
        let page = clap_mangen::Man::new(page.clone()).title(name.to_uppercase()).section("1");
        page.render(&mut text).context("make a manual page")?;
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        // Writing to a String cannot fail.
        let _ = writeln!(names, "{}", file.display());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_verb_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let args = ManArgs { directory: folder.path().to_owned() };
        let names = pages(&args, Cli::command()).unwrap();
        assert_eq!(names.lines().count(), Cli::command().get_subcommands().count() + 1);
        let page = std::fs::read_to_string(folder.path().join("podswell-explain.1")).unwrap();
        for text in [".TH", "podswell explain", "\\-\\-namespace", "PODSWELL_SERVER"] {
            assert!(page.contains(text), "{text} in\n{page}");
        }
        let main = std::fs::read_to_string(folder.path().join("podswell.1")).unwrap();
        assert!(main.contains("podswell\\-check(1)"), "{main}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let args = ManArgs { directory: "/nowhere/man1".into() };
        let error = format!("{:#}", pages(&args, Cli::command()).unwrap_err());
        assert!(error.contains("/nowhere/man1/podswell.1"), "{error}");
    }
}
