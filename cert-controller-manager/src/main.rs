//! The binary, which calls the library.

fn main() -> std::process::ExitCode {
    cert_controller_manager::cli::main()
}
