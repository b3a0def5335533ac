//! The `runfleet` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    runfleet::cli::main()
}
