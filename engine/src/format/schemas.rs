//! Where a format's schema comes from, by the options of `WITH (…)`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::confluent::{Framing, Strategy, Subjects};
use super::options::{FORMAT, REGISTRY};
use crate::connector::options::Options;
use crate::error::{Error, Result};
use crate::schema::origin::{Origin, Place, RefreshBy};
use crate::schema::registry::confluent::Confluent;
use crate::schema::registry::fetch::is_url;
use crate::schema::registry::http::Access;
use crate::schema::registry::ids::SchemaIds;
use crate::schema::registry::stencil::Stencil;

/// Whether rows are read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A stream.
    Stream,
    /// A sink.
    Sink,
}

/// Options that make sense with one kind of registry.
const OF_REGISTRY: &[(&str, &[&str])] = &[
    ("registry_url", &["confluent", "stencil"]),
    ("namespace", &["stencil"]),
    ("schema", &["stencil"]),
    ("subject", &["confluent"]),
    ("subject_strategy", &["confluent"]),
    ("register", &["confluent"]),
    ("schema_version", &["confluent", "stencil"]),
];

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Schemas {
    /// Where the schema is asked for; `None`: the statement declares what there is.
    pub(super) origin: Option<Origin>,
    /// Records carry ids.
    pub(super) framing: Option<Arc<Framing>>,
}

impl Schemas {
    /// Reads the options; asks nobody. `folder` is where the server keeps what registries say; `record` is the message, if
    /// it is said.
    pub(super) fn parse(
        values: &BTreeMap<String, String>,
        role: Role,
        folder: Option<&Path>,
        record: Option<&str>,
    ) -> Result<Self> {
        let options = Options::new(&REGISTRY, values);
        let registry = options.choice("registry")?;
        check_registry(values, registry, role)?;
        let format = Options::new(&FORMAT, values);
        let descriptor = format.text("descriptor")?;
        let access = access(&options)?;
        let addresses: Vec<String> = options.list("registry_url")?.into_iter().map(str::to_owned).collect();
        if let (Some(registry), []) = (registry, &addresses[..]) {
            return Err(Error::invalid(format!("registry = '{registry}' needs the option \"registry_url\"")));
        }
        let version = options.integer("schema_version")?.and_then(|version| u64::try_from(version).ok());
        let every = options.duration("refresh")?;
        if every.is_some_and(|every| every < Duration::from_secs(1)) {
            return Err(Error::invalid("the option \"refresh\" is at least one second"));
        }
        let mut framing = None;
        let place = match registry {
            Some("stencil") => {
                if descriptor.is_some() {
                    return Err(two_places("stencil"));
                }
                let name = match (options.text("namespace")?, options.text("schema")?) {
                    (Some(namespace), Some(schema)) => Some((namespace, schema)),
                    (None, None) => None,
                    _ => return Err(Error::invalid("\"namespace\" and \"schema\" name a schema in Stencil together")),
                };
                Some(Place::Stencil(Stencil::new(&addresses, &access, name)?))
            }
            Some(_) => {
                let registry = Confluent::new(&addresses, &access)?;
                let subjects = subjects(&options, values)?;
                let register = options.choice("register")? != Some("false");
                let ids = SchemaIds::new(registry.clone(), folder);
                let subject = subjects.name(super::confluent::Part::Value, record);
                framing = Some(Arc::new(Framing::new(ids, subjects, register)));
                match descriptor {
                    Some(descriptor) => Some(described(descriptor, &format)?),
                    None => match subject {
                        Ok(subject) => Some(Place::Confluent { registry, subject }),
                        // A sink's may be called after a record that nobody has seen yet.
                        Err(_) if role == Role::Sink => None,
                        Err(error) => return Err(error),
                    },
                }
            }
            None => descriptor.map(|descriptor| described(descriptor, &format)).transpose()?,
        };
        let by = match (options.choice("refresh_by")?, &place) {
            (Some("version"), Some(Place::Files { .. } | Place::Urls(_))) => {
                return Err(Error::invalid(
                    "refresh_by = 'version' goes with a registry: files and URLs have no versions",
                ));
            }
            (Some("content"), _) => RefreshBy::Content,
            (None, Some(Place::Files { .. } | Place::Urls(_))) => RefreshBy::Content,
            _ => RefreshBy::Version,
        };
        let origin = place.map(|place| Origin { place, access, version, by, every });
        Ok(Self { origin, framing })
    }
}

fn check_registry(values: &BTreeMap<String, String>, registry: Option<&str>, role: Role) -> Result<()> {
    for (option, registries) in OF_REGISTRY {
        if values.contains_key(*option) && !registry.is_some_and(|registry| registries.contains(&registry)) {
            return Err(Error::invalid(format!(
                "the option \"{option}\" goes with registry = '{}'",
                registries.join("' or '")
            )));
        }
    }
    let (foreign, whose) = match role {
        Role::Stream => (["register"].as_slice(), "sinks"),
        Role::Sink => (["refresh", "refresh_by"].as_slice(), "streams"),
    };
    match foreign.iter().find(|option| values.contains_key(**option)) {
        Some(option) => Err(Error::invalid(format!("the option \"{option}\" is for {whose}"))),
        None => Ok(()),
    }
}

fn two_places(registry: &str) -> Error {
    Error::invalid(format!("the schema is in a descriptor and by registry = '{registry}' as well"))
        .with_hint("leave one of them out")
}

/// A descriptor option: files or URLs.
fn described(descriptor: &str, format: &Options<'_>) -> Result<Place> {
    let parts: Vec<String> = descriptor.split(',').map(|part| part.trim().to_owned()).collect();
    let urls = parts.iter().filter(|part| is_url(part)).count();
    if urls == 0 {
        let includes = format.list("includes")?.into_iter().map(PathBuf::from).collect();
        return Ok(Place::Files { option: descriptor.to_owned(), includes });
    }
    if urls < parts.len() {
        return Err(Error::invalid("the descriptor option names files and URLs").with_hint("name one kind"));
    }
    if format.text("includes")?.is_some() {
        return Err(Error::invalid("the option \"includes\" names folders for .proto files of this machine"));
    }
    Ok(Place::Urls(parts))
}

fn subjects(options: &Options<'_>, values: &BTreeMap<String, String>) -> Result<Subjects> {
    let one_topic = |topic: &&String| !topic.contains(',') && !topic.trim_start().starts_with('/');
    let topic = values.get("topic").filter(one_topic).map(|topic| topic.trim().to_owned());
    let strategy = match options.choice("subject_strategy")? {
        Some("record") => Strategy::Record,
        Some("topic_record") => Strategy::TopicRecord,
        _ => Strategy::Topic,
    };
    Ok(Subjects { given: options.text("subject")?.map(str::to_owned), strategy, topic })
}

fn access(options: &Options<'_>) -> Result<Access> {
    let mut headers = Vec::new();
    for header in options.text("registry_headers")?.into_iter().flat_map(|text| text.split(',')) {
        match header.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() => {
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            _ => {
                return Err(Error::invalid("the option \"registry_headers\" has a part that is no header of HTTP")
                    .with_hint("write registry_headers = 'name: value, name: value'"));
            }
        }
    }
    let login = match (options.text("registry_user")?, options.text("registry_password")?) {
        (Some(user), password) => Some((user.to_owned(), password.unwrap_or_default().to_owned())),
        (None, Some(_)) => return Err(Error::invalid("a registry_password needs a registry_user")),
        (None, None) => None,
    };
    let known = Access::default();
    Ok(Access {
        headers,
        login,
        timeout: options.duration("registry_timeout")?.unwrap_or(known.timeout),
        retries: options.integer("registry_retries")?.map_or(known.retries, |retries| retries as u32),
        backoff: known.backoff,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)], role: Role) -> Result<Schemas> {
        let mut values = BTreeMap::from([("topic".to_owned(), "orders".to_owned())]);
        values.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Schemas::parse(&values, role, None, None)
    }

    const CONFLUENT: [(&str, &str); 2] = [("registry", "confluent"), ("registry_url", "http://r:8081")];

    #[test]
    fn places_are_known_by_their_options() {
        let place = |pairs: &[(&str, &str)]| parse(pairs, Role::Stream).unwrap().origin.unwrap();
        assert!(matches!(place(&[("descriptor", "file:a.desc")]).place, Place::Files { .. }));
        let urls = place(&[("descriptor", "https://a/x.desc, s3://b/y.desc")]);
        assert!(matches!(&urls.place, Place::Urls(urls) if urls.len() == 2));
        assert_eq!(urls.by, RefreshBy::Content);
        let own = "http://s/v1beta1/namespaces/n/schemas/x";
        let stencil = place(&[("registry", "stencil"), ("registry_url", own), ("refresh", "5m")]);
        assert_eq!((stencil.shown().as_str(), stencil.by), (own, RefreshBy::Version));
        assert_eq!(stencil.every, Some(Duration::from_secs(300)));
        assert!(place(&CONFLUENT).shown().contains("subject 'orders-value'"));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (pairs, role, words) in [
            (&[("subject", "x")][..], Role::Stream, "goes with registry = 'confluent'"),
            (&[("registry", "stencil")], Role::Stream, "needs the option \"registry_url\""),
            (&[("registry", "stencil"), ("registry_url", "http://s")], Role::Stream, "\"namespace\" and \"schema\""),
            (&[("descriptor", "file:a, http://b/c")], Role::Stream, "files and URLs"),
            (&[("descriptor", "file:a"), ("refresh_by", "version")], Role::Stream, "have no versions"),
            (&[("descriptor", "file:a"), ("refresh", "1m")], Role::Sink, "is for streams"),
            (&[("descriptor", "file:a"), ("registry_headers", "x")], Role::Sink, "is no header"),
            (&[("descriptor", "file:a"), ("registry_password", "x")], Role::Sink, "needs a registry_user"),
            (&[CONFLUENT[0], CONFLUENT[1], ("register", "true")], Role::Stream, "is for sinks"),
            (&[CONFLUENT[0], CONFLUENT[1], ("topic", "a,b")], Role::Stream, "several topics"),
            (&[CONFLUENT[0], CONFLUENT[1], ("subject_strategy", "record")], Role::Stream, "is not said"),
        ] {
            let error = parse(pairs, role).unwrap_err();
            assert!(error.message().contains(words), "{words}: {error}");
        }
    }
}
