//! Deploys bigpeer on Kubernetes. Nothing is here yet: no resource is watched, nothing is deployed.
//!
//! What will be here watches `BigPeer` resources and runs the server for each of them as a stateful set. It is a
//! crate of its own because it shares no code with the engine: it knows the server by its command line, its
//! readiness probe and its admin listener.
