//! The paths of fields in the proto.

use crate::engine::Field;

/// Returns the path of `field` in the message that has it: a search request, or a video to write.
///
/// The proto has the names of the crate, except for the fields of its messages `params` and `query`.
pub(super) fn proto_path(field: &Field) -> String {
    match field {
        Field::Params => "params".to_owned(),
        Field::EfSearch | Field::TargetRecall | Field::EffortK | Field::Plan => format!("params.{field}"),
        Field::QueryVector | Field::Interests | Field::Seeds => format!("query.{field}"),
        Field::InterestVector(_) | Field::InterestWeight(_) | Field::InterestMinShare(_) => {
            format!("query.interests.{field}")
        }
        Field::SeedWeight(_) => format!("query.seeds.{field}"),
        _ => field.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;
    use crate::rules::ExcludeField;
    use crate::service::proto::FILE_DESCRIPTOR_SET;

    /// Whether `path` leads through fields of the message `name` and of the messages in it.
    fn is_in(messages: &HashMap<String, DescriptorProto>, name: &str, path: &str) -> bool {
        let mut message = messages.get(name);
        path.split('.').all(|step| {
            let (step, is_item) = step.split_once('[').map_or((step, false), |(step, _)| (step, true));
            let Some(field) = message.and_then(|message| message.field.iter().find(|f| f.name() == step))
            else {
                return false;
            };
            let is_repeated = field.label() == prost_types::field_descriptor_proto::Label::Repeated;
            message = messages.get(field.type_name().trim_start_matches(".shortlist.v1."));
            is_repeated || !is_item
        })
    }

    /// The proto has the query in a oneof, whose name starts the path.
    fn without_oneof(path: &str) -> &str {
        path.strip_prefix("query.").unwrap_or(path)
    }

    #[test]
    fn every_path_leads_to_a_field_of_the_proto() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let own = files.into_iter().filter(|file| file.package() == "shortlist.v1");
        let messages: HashMap<String, DescriptorProto> = own
            .flat_map(|file| file.message_type)
            .flat_map(|message| {
                let within = message.nested_type.clone();
                let name = message.name().to_owned();
                let inner = |inner: DescriptorProto| (format!("{name}.{}", inner.name()), inner);
                within.into_iter().map(inner).chain([(name.clone(), message)]).collect::<Vec<_>>()
            })
            .collect();
        let filter = |path: &str| Field::Filter { path: path.to_owned() };
        let form = |form| Field::ScoreTermForm { position: 1, form };
        let of_search = [
            Field::Index,
            Field::K,
            Field::Offset,
            Field::Params,
            Field::EfSearch,
            Field::TargetRecall,
            Field::EffortK,
            Field::Plan,
            Field::QueryVector,
            Field::Interests,
            Field::InterestVector(1),
            Field::InterestWeight(1),
            Field::InterestMinShare(1),
            Field::Seeds,
            Field::SeedWeight(1),
            filter(""),
            filter("must[1].keyword.any_of"),
            filter("should[0].filter.must_not[2].number.gte"),
            filter("must[0].is_null.attribute"),
            filter("min_should"),
            Field::FilterText,
            Field::Exclude,
            Field::Excluded(ExcludeField::VideoIds),
            Field::Excluded(ExcludeField::TextIds),
            Field::Excluded(ExcludeField::Roaring),
            Field::Excluded(ExcludeField::BloomBits),
            Field::Excluded(ExcludeField::BloomHashes),
            Field::Caps,
            Field::Cap(1),
            Field::CapAttribute(1),
            Field::CapMaxPerValue(1),
            Field::Fresh,
            Field::FreshAttribute,
            Field::FreshAtLeast,
            Field::Reserves,
            Field::Reserve(1),
            Field::ReserveFilter { position: 1, path: String::new() },
            Field::ReserveFilter { position: 1, path: "must[0].keyword.any_of".to_owned() },
            Field::ReserveFilterText(1),
            Field::ReserveAtLeast(1),
            Field::ReserveShare(1),
            Field::ReserveTemperature(1),
            Field::DiversityMaxSimilarity,
            Field::DiversityLambda,
            Field::ScoreThreshold,
            Field::ScoreTerms,
            Field::ScoreTermAttribute(1),
            Field::ScoreTermWeight(1),
            form("linear"),
            form("log1p"),
            form("clamp"),
            form("decay.half_life"),
            form("decay.window"),
            form("match.any_of"),
            Field::ReturnAttributes,
            Field::ReturnVectors,
            Field::ReturnAttribute(1),
            Field::EmbeddingModel,
            Field::MinSequence,
            Field::PageToken,
        ];
        for field in of_search {
            let path = proto_path(&field);
            assert!(is_in(&messages, "SearchRequest", without_oneof(&path)), "{field:?}: {path}");
        }
        let attribute = Field::Attribute("title".to_owned());
        for field in [Field::Vector, Field::Attributes, attribute, Field::EmbeddingModel] {
            let path = proto_path(&field);
            assert!(is_in(&messages, "Video", &path), "{field:?}: {path}");
        }
        assert!(!is_in(&messages, "SearchRequest", "fresh.nothing"));
        assert!(!is_in(&messages, "SearchRequest", "k[1]"));
    }
}
