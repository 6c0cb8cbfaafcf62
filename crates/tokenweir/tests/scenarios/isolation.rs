//! Projects, gateways and regions side by side.
