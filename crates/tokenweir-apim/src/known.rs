//! What API Management calls the parts of a request, and what they are called here.

use crate::value::{Dictionary, Plain};

/// What a member of `context` is, by its path without `context.`; `nullable` where the path has a `?.`.
pub(crate) fn member(path: &str, nullable: bool) -> Option<Plain> {
    let part = |part: &str| Plain::part(part, nullable);
    Some(match path {
        "Subscription.Id" => part("key:subscription"),
        "Subscription.Key" => part("key:subscription-key"),
        "Subscription.Name" => part("key:subscription-name"),
        "Product.Id" => part("key:product"),
        "Product.Name" => part("key:product-name"),
        "User.Id" => part("key:user"),
        "User.Email" => part("key:user-email"),
        "Api.Id" => part("key:api"),
        "Api.Name" => part("key:api-name"),
        "Api.Path" => part("key:api-path"),
        "Operation.Id" => part("key:operation"),
        "Operation.Name" => part("key:operation-name"),
        "Operation.Method" | "Request.Method" => part("key:method"),
        "Workspace.Id" => part("key:workspace"),
        "Workspace.Name" => part("key:workspace-name"),
        "Request.IpAddress" => part("key:ip"),
        "Request.Certificate.Thumbprint" => part("key:certificate"),
        "Request.Foundry.Deployment" => part("deployment"),
        "Deployment.Region" => part("key:region"),
        "Deployment.Gateway.Id" | "Deployment.GatewayId" | "Gateway.Id" => part("key:gateway"),
        "Subscription" => Plain::Object("key:subscription"),
        "Product" => Plain::Object("key:product"),
        "User" => Plain::Object("key:user"),
        "Request.Certificate" => Plain::Object("key:certificate"),
        "Request.Headers" => Plain::Dictionary(Dictionary::Headers),
        "Request.Url.Query" | "Request.OriginalUrl.Query" => Plain::Dictionary(Dictionary::Query),
        "Request.MatchedParameters" => Plain::Dictionary(Dictionary::Parameters),
        "Request.Jwt" => Plain::Jwt,
        "Request.Body" => Plain::Dictionary(Dictionary::Body),
        "Variables" => Plain::Dictionary(Dictionary::Variables),
        "RequestId" | "Timestamp" | "Elapsed" => Plain::Volatile(format!("context.{path}")),
        _ if path.starts_with("Response") => Plain::opaque("it reads the response, which is not there yet"),
        _ => return None,
    })
}

/// The part that an entry of a dictionary is.
pub(crate) fn entry(dictionary: Dictionary, name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("it looks up an empty name".into());
    }
    let lower = name.to_ascii_lowercase();
    match dictionary {
        // Their names are told apart without regard to case.
        Dictionary::Headers => Ok(format!("key:header:{lower}")),
        Dictionary::Query => Ok(format!("key:query:{name}")),
        Dictionary::Claims => Ok(format!("key:claim:{name}")),
        Dictionary::Parameters
            if matches!(lower.as_str(), "deployment-id" | "deploymentid" | "deployment" | "model") =>
        {
            Ok("deployment".into())
        }
        Dictionary::Parameters => Ok(format!("key:parameter:{name}")),
        Dictionary::Body if name == "model" => Ok("deployment".into()),
        Dictionary::Body => Err(format!("it reads {name:?} in the body")),
        Dictionary::Variables => Err(format!("it reads the variable {name:?}")),
    }
}

/// What a host has to send as a part, in words.
pub(crate) fn meaning(part: &str) -> String {
    let Some(name) = part.strip_prefix("key:") else {
        return match part {
            "deployment" => "the deployment (the model that the request names)".into(),
            _ => "the project".into(),
        };
    };
    if let Some((kind, name)) = name.split_once(':') {
        return match kind {
            "header" => format!("the request header {name}"),
            "query" => format!("the query parameter {name}"),
            "claim" => format!("the claim {name} of the caller's token"),
            _ => format!("the parameter {name} of the URL template"),
        };
    }
    match name {
        "subscription" => "context.Subscription.Id",
        "subscription-key" => "context.Subscription.Key",
        "subscription-name" => "context.Subscription.Name",
        "product" => "context.Product.Id",
        "product-name" => "context.Product.Name",
        "user" => "context.User.Id",
        "user-email" => "context.User.Email",
        "api" => "context.Api.Id",
        "api-name" => "context.Api.Name",
        "api-path" => "context.Api.Path",
        "operation" => "context.Operation.Id",
        "operation-name" => "context.Operation.Name",
        "method" => "the HTTP method",
        "workspace" => "context.Workspace.Id",
        "workspace-name" => "context.Workspace.Name",
        "ip" => "the caller's IP address",
        "certificate" => "the thumbprint of the caller's certificate",
        "region" => "context.Deployment.Region",
        "gateway" => "context.Deployment.Gateway.Id",
        _ => "as the gateway names it",
    }
    .into()
}
