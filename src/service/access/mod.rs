//! Who may do what: credentials, rights, browsers, the record of what was done.
//!
//! What flows in: requests with their headers, and the index that each names. What flows out: the same requests with the
//! name and the rights of their caller, or a refusal; and one line per change and per refusal for the audit.
//!
//! ```text
//!  request ─► route ─► port ─► browser ─► credential ─► role ─► handler ─► index
//!             known?   has it?  rules     key or token   of the method    of the rights
//! ```
//!
//! The role is checked before a byte of the message is read, the index once the message names it.
//!
//! | file | duty |
//! |---|---|
//! | `rights.rs`      | roles, and the one that each method needs |
//! | `limits.rs`      | limits of the callers with one key or role |
//! | `browser.rs`     | refuses what a web page makes a browser send |
//! | `share.rs`       | whether a web page may read an answer |
//! | `guard.rs`       | decides on a request before it is read |
//! | `credentials.rs` | everything that a server was given to know its callers by |
//! | `keys.rs`        | static keys |
//! | `tokens.rs`      | signed tokens (JWT) |
//! | `tls.rs`         | certificates |
//! | `standing.rs`    | decides on the requests of a stream, once credentials change |
//! | `index.rs`       | decides on the index of a request |
//! | `audit.rs`       | the record of changes and refusals |
//! | `denial.rs`      | why a call is refused, as metrics count it |

mod audit;
mod browser;
mod credentials;
mod denial;
mod guard;
mod index;
mod keys;
mod limits;
mod rights;
mod share;
mod standing;
mod tls;
mod tokens;

pub use self::audit::Audit;
pub(crate) use self::audit::{Change, Event};
pub use self::credentials::{Access, AccessOptions};
pub(crate) use self::denial::Denial;
pub(crate) use self::guard::guard;
pub(crate) use self::index::{check_index, check_named, may_list};
pub use self::keys::{Digest, KeyFile, KeyOptions, new_key};
pub use self::limits::OwnLimits;
pub(crate) use self::rights::Rights;
pub use self::rights::{Role, RoleLimits};
pub(crate) use self::share::share;
pub(crate) use self::standing::Standing;
pub use self::tls::TlsOptions;
pub use self::tokens::TokenOptions;
