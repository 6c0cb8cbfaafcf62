//! The control plane, driven as a console would: by operations and declarations in JSON.

mod diagnosed;
mod document;
mod lifecycle;
mod permitted;
mod requirements;
mod support;
