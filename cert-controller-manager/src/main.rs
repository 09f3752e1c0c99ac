//! The program; everything is in the library.

fn main() -> anyhow::Result<()> {
    cert_controller_manager::cli::main()
}
