//! What a server would show to a network, refused or warned of before anyone can reach it.

use super::{ServeError, ServeOptions};
use crate::api::Door;
use crate::driver::listen::Bound;
use crate::logging;

/// The admin listener without TLS is for this machine alone, unless it was said that something else guards the way.
pub(super) fn check_admin(options: &ServeOptions) -> Result<(), ServeError> {
    let address = options.admin_listen;
    let is_guarded = options.admin_tls_cert.is_some() || options.admin_insecure;
    if address.ip().is_loopback() || is_guarded {
        return Ok(());
    }
    Err(ServeError::AdminExposed { address })
}

/// Warns of listeners that other machines reach in the clear.
pub(super) fn warn(bound: &[Bound], has_tls: bool) {
    // The admin listener has been judged before: whoever opened it said so.
    let reachable = bound.iter().filter(|bound| {
        bound.door() != Door::Admin && !bound.address.ip().is_loopback() && !has_tls
    });
    for bound in reachable {
        let address = bound.address.to_string();
        let cause = "keys and documents cross the network unencrypted: give --tls-cert and --tls-key, \
                     or put a proxy in front";
        let fields = [("address", &*address), ("cause", cause)];
        logging::warn("listening beyond loopback without TLS", &fields);
    }
}
