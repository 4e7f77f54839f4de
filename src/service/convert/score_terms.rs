//! Score terms, both ways.

use jiff::SignedDuration;

use super::bound::signed_duration;
use super::path::Path;
use crate::rules::{ScoreTerm, TermForm};
use crate::service::error::InvalidField;
use crate::service::proto;
use crate::service::proto::score_term::decay::Over;
use crate::service::proto::score_term::{Clamp, Decay, Form, Linear, Log1p, Match};

/// Reads the score terms of a request.
///
/// # Errors
/// If a term has no form, or a duration is none.
pub(super) fn score_terms(terms: Vec<proto::ScoreTerm>) -> Result<Vec<ScoreTerm>, InvalidField> {
    let read = |(position, term)| score_term(term, &Path::root_item("score_terms", position));
    terms.into_iter().enumerate().map(read).collect()
}

fn score_term(term: proto::ScoreTerm, path: &Path<'_>) -> Result<ScoreTerm, InvalidField> {
    let proto::ScoreTerm { attribute, weight, form } = term;
    let form = match form {
        Some(Form::Linear(Linear {})) => TermForm::Linear,
        Some(Form::Log1p(Log1p {})) => TermForm::Log1p,
        Some(Form::Clamp(Clamp { from, to })) => TermForm::Clamp { from, to },
        Some(Form::Decay(decay)) => self::decay(decay, &path.field("decay"))?,
        Some(Form::Match(Match { any_of })) => TermForm::Match { any_of },
        None => {
            return Err(path.invalid("expected linear, log1p, clamp, decay or match, found none of them"));
        }
    };
    Ok(ScoreTerm { attribute, weight, form })
}

fn decay(decay: Decay, path: &Path<'_>) -> Result<TermForm, InvalidField> {
    match decay.over {
        Some(Over::HalfLife(half_life)) => {
            Ok(TermForm::HalfLife(signed_duration(&half_life, &path.field("half_life"))?))
        }
        Some(Over::Window(window)) => Ok(TermForm::Window(signed_duration(&window, &path.field("window"))?)),
        None => Err(path.invalid("expected half_life or window, found none of them")),
    }
}

impl From<ScoreTerm> for proto::ScoreTerm {
    fn from(term: ScoreTerm) -> Self {
        let ScoreTerm { attribute, weight, form } = term;
        let duration =
            |of: SignedDuration| prost_types::Duration { seconds: of.as_secs(), nanos: of.subsec_nanos() };
        let form = match form {
            TermForm::Linear => Form::Linear(Linear {}),
            TermForm::Log1p => Form::Log1p(Log1p {}),
            TermForm::Clamp { from, to } => Form::Clamp(Clamp { from, to }),
            TermForm::HalfLife(half_life) => {
                Form::Decay(Decay { over: Some(Over::HalfLife(duration(half_life))) })
            }
            TermForm::Window(window) => Form::Decay(Decay { over: Some(Over::Window(duration(window))) }),
            TermForm::Match { any_of } => Form::Match(Match { any_of }),
        };
        Self { attribute, weight, form: Some(form) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_survive_the_wire() {
        let texts = [
            "0.5*linear(views)",
            "1*log1p(views)",
            "2*clamp(views, -1.5, 3)",
            "-3*decay(published_at, 1.5s)",
            "4*window(published_at, 7d)",
            "1*match(language, en, de)",
        ];
        let terms: Vec<ScoreTerm> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let wire = terms.iter().cloned().map(Into::into).collect();
        assert_eq!(score_terms(wire), Ok(terms));
    }

    #[test]
    fn what_is_missing_is_named() {
        let of = |form| {
            let complete: proto::ScoreTerm = "log1p(views)".parse::<ScoreTerm>().unwrap().into();
            let incomplete = proto::ScoreTerm { form, ..complete.clone() };
            score_terms(vec![complete, incomplete]).unwrap_err().path
        };
        assert_eq!(of(None), "score_terms[1]");
        assert_eq!(of(Some(Form::Decay(Decay { over: None }))), "score_terms[1].decay");
        let wrong = prost_types::Duration { seconds: 1, nanos: -1 };
        assert_eq!(
            of(Some(Form::Decay(Decay { over: Some(Over::Window(wrong)) }))),
            "score_terms[1].decay.window"
        );
    }
}
