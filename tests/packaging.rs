//! What no test can run here: the image and the compose file, read and judged without docker.

use std::fs;

use rondel_tests::{Result, python, root};

/// An instruction of a Dockerfile, its continued lines joined: keyword, rest.
fn instructions(text: &str) -> Vec<(String, String)> {
    let mut joined: Vec<String> = Vec::new();
    let mut continued = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (words, more) = line.strip_suffix('\\').map_or((line, false), |words| (words.trim_end(), true));
        match joined.last_mut() {
            Some(last) if continued => {
                last.push(' ');
                last.push_str(words);
            }
            _ => joined.push(words.to_owned()),
        }
        continued = more;
    }
    joined
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(keyword, rest)| (keyword.to_owned(), rest.trim().to_owned()))
        .collect()
}

#[test]
fn the_compose_file_is_sound() -> Result<()> {
    let file = root().join("docker/compose.yaml");
    let services = python::run("compose.py", &[&file.to_string_lossy()])?;
    assert_eq!(services.trim(), "influxdb kafka rondel");
    Ok(())
}

#[test]
fn the_dockerfile_is_sound() -> Result<()> {
    const KEYWORDS: &[&str] =
        &["FROM", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"];
    let instructions = instructions(&fs::read_to_string(root().join("docker/Dockerfile"))?);
    let stages: Vec<usize> = (0..instructions.len()).filter(|index| instructions[*index].0 == "FROM").collect();
    assert_eq!(stages.len(), 2, "a stage that builds and one that runs");
    let (build, run) = instructions.split_at(stages[1]);

    let mut names = Vec::new();
    for (keyword, rest) in &instructions {
        assert!(KEYWORDS.contains(&keyword.as_str()), "{keyword} is no instruction that is expected here");
        match keyword.as_str() {
            "FROM" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                assert!(words[0].contains(':') && !words[0].ends_with(":latest"), "{rest}: no fixed version");
                assert_eq!(words[1], "AS", "{rest}: the stage has no name");
                names.push(words[2].to_owned());
            }
            "COPY" => {
                if let Some(stage) = rest.strip_prefix("--from=").and_then(|rest| rest.split(' ').next()) {
                    assert!(names.contains(&stage.to_owned()), "COPY from {stage}, which is not there");
                } else {
                    let source = rest.split(' ').next().unwrap_or("");
                    assert!(root().join(source).exists(), "COPY {source}: not in the checkout");
                }
            }
            "RUN" if rest.contains("apt-get install") => {
                assert!(rest.contains("apt-get update") && rest.contains("rm -rf /var/lib/apt/lists/*"), "{rest}");
                assert!(rest.contains("--no-install-recommends"), "{rest}");
            }
            "ENTRYPOINT" | "CMD" => assert!(rest.starts_with('['), "{keyword} {rest}: a shell would swallow SIGTERM"),
            _ => {}
        }
    }
    let position = |stage: &[(String, String)], keyword: &str| stage.iter().position(|(found, _)| found == keyword);
    assert!(build.iter().any(|(_, rest)| rest.contains("cargo build --release --locked")));
    assert!(run[0].1.contains("-slim"), "the image that runs is a slim one");
    let user = position(run, "USER").ok_or("the container would run as root")?;
    assert_ne!(run[user].1, "root");
    assert!(user < position(run, "ENTRYPOINT").ok_or("no ENTRYPOINT")?);
    assert!(position(run, "HEALTHCHECK").is_some(), "no HEALTHCHECK");
    Ok(())
}

/// The image takes its toolchain from its tag: it must be one that compiles this workspace.
#[test]
fn the_image_builds_with_a_toolchain_that_is_new_enough() -> Result<()> {
    let dockerfile = fs::read_to_string(root().join("docker/Dockerfile"))?;
    let minor = |text: &str, before: &str| -> Option<u32> {
        let rest = &text[text.find(before)? + before.len()..];
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let image = minor(&dockerfile, "FROM rust:1.").ok_or("no rust image")?;
    let needed =
        minor(&fs::read_to_string(root().join("Cargo.toml"))?, "rust-version = \"1.").ok_or("no rust-version")?;
    assert!(image >= needed, "the image has Rust 1.{image}, the workspace needs 1.{needed}");
    Ok(())
}
