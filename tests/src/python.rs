//! Programs in Python (`tests/components/python/`), in an environment with the official protobuf library and
//! confluent-kafka: an encoder and a consumer that share no code with Rondel.

use std::process::{Command, Stdio};

use crate::{Result, root};

/// Runs a program of `tests/components/python/`; answers what it printed. Its failure is an error with its last words.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let folder = root().join("tests/components/python");
    let output = Command::new("bash")
        .arg(folder.join("python.sh"))
        .arg(folder.join(program))
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{program} failed ({}): {words}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
