//! Errors of the library become exceptions of the classes in `shortlist._errors`, by the code that a server returns.

use std::io;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use shortlist::{BuildError, DatasetError, EngineError, Field, StoreError};

/// The codes of gRPC that the library needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Code {
    Cancelled,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Internal,
    Unavailable,
    /// Any other, by its name.
    Of(&'static str),
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "CANCELLED",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::Of(name) => name,
        }
    }
}

/// An error before it is an exception: made without the interpreter.
#[derive(Debug)]
pub(crate) struct Fault {
    code: Code,
    /// The argument, such as `caps["creator"]`.
    field: Option<String>,
    reason: String,
    /// The row of a batch.
    row: Option<usize>,
}

impl Fault {
    pub(crate) fn new(code: Code, field: Option<&str>, reason: impl Into<String>) -> Self {
        Self { code, field: field.map(str::to_owned), reason: reason.into(), row: None }
    }

    pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, Some(field), reason)
    }

    /// The same error of one row of a batch.
    pub(crate) fn in_row(self, row: usize) -> Self {
        Self { row: Some(row), ..self }
    }
}

impl From<Fault> for PyErr {
    fn from(Fault { code, field, reason, row }: Fault) -> Self {
        static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        Python::attach(|py| {
            let made = MAKE
                .import(py, "shortlist._errors", "error_of")
                .and_then(|make| make.call1((code.name(), field, &reason, row)));
            match made {
                Ok(exception) => PyErr::from_value(exception),
                Err(problem) => {
                    let error = PyRuntimeError::new_err(reason);
                    error.set_cause(py, Some(problem));
                    error
                }
            }
        })
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        use EngineError as E;
        let code = match &error {
            E::InvalidArgument { .. } => Code::InvalidArgument,
            E::NotFilterable { .. }
            | E::EmbeddingModel { .. }
            | E::NotCalibrated { .. }
            | E::KNotCalibrated { .. }
            | E::RecallUnreachable { .. }
            | E::ReadOnly { .. }
            | E::BuiltElsewhere { .. }
            | E::OtherGeneration { .. } => Code::FailedPrecondition,
            E::UnknownIndex { .. } | E::UnknownVideo { .. } | E::NotInIndex { .. } => Code::NotFound,
            E::AnswerTooLarge { .. } | E::NoRoom | E::Busy { .. } => Code::ResourceExhausted,
            E::NotYetWritten { .. }
            | E::OutOfService { .. }
            | E::Unsearchable { .. }
            | E::Unconfirmed { .. }
            | E::Log(_) => Code::Unavailable,
            E::Cancelled => Code::Cancelled,
            E::DeadlineExceeded => Code::DeadlineExceeded,
            E::Threads(_) | E::NoThread(_) => Code::Internal,
            E::Store(_) => Code::FailedPrecondition,
        };
        let field = match &error {
            E::UnknownVideo { .. } => Some("q".to_owned()),
            E::NotInIndex { .. } => Some("video_id".to_owned()),
            _ => error.field().map(|field| argument(&field)),
        };
        Self { code, field, reason: error.problem(), row: None }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Io { source, .. } => code_of(source),
            StoreError::Empty { .. } | StoreError::UnknownGeneration { .. } => Code::NotFound,
            _ => Code::FailedPrecondition,
        };
        Self::new(code, None, error.to_string())
    }
}

fn code_of(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        io::ErrorKind::StorageFull => Code::ResourceExhausted,
        io::ErrorKind::NotADirectory | io::ErrorKind::ReadOnlyFilesystem => Code::FailedPrecondition,
        _ => Code::Internal,
    }
}

impl From<BuildError> for Fault {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Params(error) => {
                let text = error.to_string();
                let field = if text.contains("ef_construction") { "ef_construction" } else { "m" };
                Self::invalid(field, text)
            }
            BuildError::TrainingDimension { expected, found, .. } => {
                let reason = format!("expected {expected} components per row as in x, found {found}");
                Self::invalid("training_queries", reason)
            }
            BuildError::Training(error) => {
                let is_of_users = error.to_string().starts_with("training_queries: ");
                of_dataset(if is_of_users { "training_queries" } else { "x" }, &error)
            }
            BuildError::Attribute(error) => Self::invalid("attributes", error.to_string()),
            BuildError::Store(error) => Self { field: Some("out".to_owned()), ..error.into() },
            BuildError::Index(error) => Self::new(Code::Internal, None, error.to_string()),
            BuildError::Threads(error) => Self::new(Code::Internal, Some("threads"), error.to_string()),
            BuildError::Cancelled => Self::new(Code::Cancelled, None, error.to_string()),
        }
    }
}

/// The error of an argument. The message of the library starts with a name in place of a path, which is left out.
pub(crate) fn of_dataset(argument: &str, error: &DatasetError) -> Fault {
    let text = error.to_string();
    let reason = text.split_once(": ").map_or(text.as_str(), |(_, reason)| reason);
    Fault::invalid(argument, reason)
}

/// The argument of `search` that has a field of a request.
pub(crate) fn argument(field: &Field) -> String {
    match field {
        Field::QueryVector | Field::Interests | Field::Seeds => "q".to_owned(),
        Field::InterestVector(position) => format!("q.vectors[{position}]"),
        Field::InterestWeight(position) | Field::SeedWeight(position) => format!("q.weights[{position}]"),
        Field::InterestMinShare(position) => format!("q.min_shares[{position}]"),
        Field::Excluded(_) => "exclude".to_owned(),
        Field::ReturnAttributes => "attributes".to_owned(),
        Field::ReturnAttribute(position) => format!("attributes[{position}]"),
        Field::ReturnVectors => "vectors".to_owned(),
        Field::DiversityMaxSimilarity => "max_similarity".to_owned(),
        Field::DiversityLambda => "mmr_lambda".to_owned(),
        other => other.to_string(),
    }
}
