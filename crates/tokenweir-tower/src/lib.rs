//! tokenweir as a tower layer, for hyper, axum, tonic and whatever else takes `http` requests.
//!
//! A [`MeterLayer`] stands in front of a service that calls models. It asks the [`Host`] who calls what, reads of the
//! request's body what an estimate needs, admits by a [`Limiter`](tokenweir::Limiter), a
//! [`Gate`](tokenweir::gateway::Gate) or [counters on a server](OnServer), answers what is refused in the caller's dialect, passes everything else on, and
//! settles each call exactly once, however it ends:
//!
//! | the call ends | it is settled by |
//! |---|---|
//! | with a whole response | the usage it reports; where it reports none, its text as it was counted, and the estimate for what cannot be seen |
//! | with a stream that stops, or a client that hangs up | what was reported, and the text since then, as it was counted |
//! | with a body of JSON that stops, or a client that hangs up on it | the same, and at least the estimate: the answer was complete before it was sent |
//! | with an error status | what was reported, or nothing: [`Settings::failed`] |
//! | with an error of the service, or a response of its own because no answer came ([`NoAnswer`]) | the estimate: [`Settings::unanswered`] |
//! | before the service has answered, because the client hung up | the estimate |
//! | without having reached a provider ([`NotReached`] in the response) | nothing, and it is no request either |
//! | with a body that is compressed in spite of `accept-encoding: identity` | the estimate |
//! | and had no body to read ([`Takes::Stated`]) | the estimate |
//!
//! The rules of these ends are [`tokenweir_wire::Exchange`]'s. A permit is renewed while its response passes; one that expires
//! because the response stood still for longer than [`Limiter::permit_ttl`](tokenweir::Limiter::permit_ttl) ends it, and an
//! answer that takes as long to begin is 504: nothing passes uncounted.
//!
//! Responses pass as they come: nothing is held back but, on streams whose client did not ask for the usage, the event that
//! is under way. Headers, trailers and lengths stay what they are wherever the body does.
//!
//! # Example
//! ```
//! use http::request::Parts;
//! use tokenweir::{Limiter, Policy};
//! use tokenweir_tower::{Caller, Host, Identified, MeterLayer, Settings, Takes, error};
//! use tokenweir_wire::{Dialect, Endpoint, OutputRule};
//!
//! struct Projects;
//!
//! impl Host for Projects {
//!     fn identify(&self, head: &mut Parts) -> Identified {
//!         let Some(endpoint) = Endpoint::of(head.uri.path()) else { return Identified::Unmetered };
//!         // Look the key up, in constant time.
//!         let Some(_key) = head.headers.get("authorization") else {
//!             return Identified::Refused(error(Dialect::OpenAi, 401, "The key is missing."));
//!         };
//!         Identified::Metered(Caller::new("search", Takes::tokens(endpoint)))
//!     }
//! }
//!
//! let policy = Policy::from_toml(r#"
//!     [[limit]]
//!     name = "project tpm"
//!     meter = "total"
//!     algorithm = "bucket"
//!     amount = 10_000
//!     per = "1m"
//!     scope = ["project", "deployment"]
//! "#)?;
//! let layer = MeterLayer::new(Limiter::new(policy), Projects, Settings::new(OutputRule::tokens(1024)));
//! // axum: router.layer(layer); hyper and tonic: tower::ServiceBuilder::new().layer(layer).service(proxy).
//! # let _ = layer;
//! # Ok::<(), tokenweir::PolicyError>(())
//! ```
//!
//! # Counters on a server
//! [`OnServer`] decides by whatever is [`Counters`](tokenweir::elsewhere::Counters): `tokenweir_redis::OpenPermits` are those of a limiter on
//! Redis or Valkey, so that gateways on many machines share their limits. Only the decision waits for the server.
//!
//! # gRPC
//! A call without a body to read is metered by what the host says of it ([`Takes::Stated`]), messages and trailers pass
//! untouched, and a refusal of a request of type `application/grpc` is a status of gRPC (`RESOURCE_EXHAUSTED` for limits)
//! in a response without a body. The tests have a client and a server of tonic on both sides of it.

#![forbid(unsafe_code)]

mod admission;
mod answer;
mod host;
mod layer;
mod request;
mod response;
mod settings;

pub use admission::{Admission, Admitted, Hold, OnServer, Refusal};
pub use answer::error;
pub use host::{Caller, Host, Identified, Metered, NoAnswer, NotReached, Takes};
pub use layer::{MeterLayer, MeterService};
pub use request::RequestBody;
pub use response::ResponseBody;
pub use settings::{Oversize, Settings};
pub use tokenweir_wire::{Cut, Failed, Unanswered};
