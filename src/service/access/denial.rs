//! Why a call is refused for what its caller is.

use tonic::Status;

/// Why a call is refused before its message is read, or for the index that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// It has no credential.
    Missing,
    /// The header of the credential is not as expected.
    Malformed,
    /// There is no such key.
    UnknownKey,
    /// The token is not valid, or no longer.
    InvalidToken,
    /// The rights of the credential changed during a stream.
    Changed,
    /// The credential lacks the role of the method.
    Role,
    /// The credential is for other indexes.
    Index,
    /// A web page may have made a browser send it.
    WebPage,
}

impl Denial {
    pub(crate) const ALL: [Self; 8] = [
        Self::Missing,
        Self::Malformed,
        Self::UnknownKey,
        Self::InvalidToken,
        Self::Changed,
        Self::Role,
        Self::Index,
        Self::WebPage,
    ];

    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::InvalidToken => "invalid_token",
            Self::Changed => "changed",
            Self::Role => "role",
            Self::Index => "index",
            Self::WebPage => "web_page",
        }
    }

    /// Returns whether it is not known who calls, in contrast to a caller who may not make the call.
    pub(crate) fn is_authentication(self) -> bool {
        !matches!(self, Self::Role | Self::Index | Self::WebPage)
    }
}

/// Why it is not known who calls.
#[derive(Debug)]
pub(super) struct Unidentified {
    pub(super) denial: Denial,
    /// `UNAUTHENTICATED`.
    pub(super) status: Status,
}

impl Unidentified {
    pub(super) fn new(denial: Denial, text: impl Into<String>) -> Self {
        Self { denial, status: Status::unauthenticated(text) }
    }
}
