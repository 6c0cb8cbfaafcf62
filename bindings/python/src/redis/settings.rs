//! What a limiter is told when it is made. What a setting may be, the core says.

use crate::convert::{bytes, span, whole};
use crate::errors::bad_redis;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokenweir_redis::{Builder, Leases, Server, WhenAway};

type Given<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

pub fn server(address: &str, trusting: Given, certificate: Given, key: Given) -> PyResult<Server> {
    let mut server = Server::parse(address).map_err(bad_redis)?;
    if let Some(root) = trusting {
        server = server.trusting(bytes("trusting", root)?).map_err(bad_redis)?;
    }
    match (certificate, key) {
        (None, None) => Ok(server),
        (Some(certificate), Some(key)) => {
            server.shown_as(bytes("certificate", certificate)?, bytes("key", key)?).map_err(bad_redis)
        }
        _ => Err(PyValueError::new_err("a certificate is shown with its key; give both, or neither")),
    }
}

pub fn spans(
    builder: Builder,
    deadline: Given,
    permit_ttl: Given,
    place_ttl: Given,
    back_off: Given,
) -> PyResult<Builder> {
    let set = |builder, what, given: Given, set: fn(Builder, _) -> Builder| match given {
        Some(value) => PyResult::Ok(set(builder, span(what, value)?)),
        None => Ok(builder),
    };
    let builder = set(builder, "deadline", deadline, Builder::deadline)?;
    let builder = set(builder, "permit_ttl", permit_ttl, Builder::permit_ttl)?;
    let builder = set(builder, "place_ttl", place_ttl, Builder::place_ttl)?;
    set(builder, "back_off", back_off, Builder::back_off)
}

pub fn slots(builder: Builder, slot_by: Option<&str>) -> PyResult<Builder> {
    let Some(part) = slot_by else { return Ok(builder) };
    let part = part.parse().map_err(|wrong| PyValueError::new_err(format!("slot_by: {wrong}")))?;
    Ok(builder.slot_by(part))
}

pub fn when_away(builder: Builder, when_away: Option<&str>, per_mille: Given) -> PyResult<Builder> {
    let mode = match (when_away, per_mille) {
        (None | Some("deny"), None) => WhenAway::Deny,
        (Some("allow"), None) => WhenAway::Allow,
        (Some("local_share"), Some(share)) => {
            WhenAway::LocalShare { per_mille: whole("per_mille", share, 1..=1000)? as u32 }
        }
        (Some("local_share"), None) => {
            return Err(PyValueError::new_err("when_away is \"local_share\" without per_mille; give 1 to 1000"));
        }
        (None | Some("deny" | "allow"), Some(_)) => {
            return Err(PyValueError::new_err("per_mille belongs to when_away=\"local_share\"; leave it out"));
        }
        (Some(other), _) => {
            return Err(PyValueError::new_err(format!(
                "when_away is {other:?}; give \"deny\", \"allow\" or \"local_share\""
            )));
        }
    };
    Ok(builder.when_away(mode))
}

pub fn leases(builder: Builder, leases: bool, life: Given, part: Given) -> PyResult<Builder> {
    if !leases {
        let idle = life.map(|_| "lease_life").or(part.map(|_| "lease_part"));
        return match idle {
            Some(setting) => Err(PyValueError::new_err(format!("{setting} without leases; give leases=True as well"))),
            None => Ok(builder),
        };
    }
    let mut leases = Leases::new();
    if let Some(life) = life {
        leases = leases.life(span("lease_life", life)?);
    }
    if let Some(part) = part {
        leases = leases.part(whole("lease_part", part, 2..=1000)? as u32);
    }
    Ok(builder.leases(leases))
}
