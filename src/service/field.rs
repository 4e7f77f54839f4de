//! The paths of fields in the proto.

use crate::engine::Field;
use crate::rules::ExcludeField;

/// Returns the path of `field` in the message that has it: a search request, or a video to write.
///
/// Files in the options of an engine are no part of a message. They keep the names of the configuration.
pub(super) fn proto_path(field: &Field) -> String {
    let path = match field {
        Field::Params => "params",
        Field::EfSearch => "params.ef_search",
        Field::TargetRecall => "params.target_recall",
        Field::Plan => "params.plan",
        Field::QueryVector => "query.vector",
        Field::Interests => "query.interests",
        Field::InterestVector(position) => return interest(*position, "vector"),
        Field::InterestWeight(position) => return interest(*position, "weight"),
        Field::InterestMinShare(position) => return interest(*position, "min_share"),
        Field::Seeds => "query.seeds",
        Field::SeedWeight(position) => return format!("query.seeds.seeds[{position}].weight"),
        // The proto names the clauses of a filter and their fields as the domain does.
        Field::Filter { path } if path.is_empty() => "filter",
        Field::Filter { path } => return format!("filter.{path}"),
        Field::Index => "index",
        Field::K => "k",
        Field::Offset => "offset",
        Field::Exclude => "exclude",
        Field::Excluded(ExcludeField::VideoIds) => "exclude.video_ids",
        Field::Excluded(ExcludeField::Roaring) => "exclude.roaring",
        Field::Excluded(ExcludeField::BloomBits) => "exclude.bloom.bits",
        Field::Excluded(ExcludeField::BloomHashes) => "exclude.bloom.hashes",
        Field::Caps => "caps",
        Field::Cap(position) => return format!("caps[{position}]"),
        Field::CapAttribute(position) => return format!("caps[{position}].attribute"),
        Field::CapMaxPerValue(position) => return format!("caps[{position}].max_per_value"),
        Field::Fresh => "fresh",
        Field::FreshAttribute => "fresh.attribute",
        Field::FreshAtLeast => "fresh.at_least",
        Field::ScoreThreshold => "score_threshold",
        Field::ReturnAttribute(position) => return format!("return_attributes[{position}]"),
        Field::EmbeddingModel => "embedding_model",
        Field::MinSequence => "min_sequence",
        Field::Vector => "vector",
        Field::Attributes => "attributes",
        Field::TrainingQueries => "rebuild.training_queries",
        Field::GateQueryFiles => "gate.query_files",
    };
    path.to_owned()
}

fn interest(position: usize, field: &str) -> String {
    format!("query.interests.interests[{position}].{field}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message as _;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;
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
            .map(|message| (message.name().to_owned(), message))
            .collect();
        let filter = |path: &str| Field::Filter { path: path.to_owned() };
        let of_search = [
            Field::Index,
            Field::K,
            Field::Offset,
            Field::Params,
            Field::EfSearch,
            Field::TargetRecall,
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
            Field::Exclude,
            Field::Excluded(ExcludeField::VideoIds),
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
            Field::ScoreThreshold,
            Field::ReturnAttribute(1),
            Field::EmbeddingModel,
            Field::MinSequence,
        ];
        for field in of_search {
            let path = proto_path(&field);
            assert!(is_in(&messages, "SearchRequest", without_oneof(&path)), "{field:?}: {path}");
        }
        for field in [Field::Vector, Field::Attributes, Field::EmbeddingModel] {
            let path = proto_path(&field);
            assert!(is_in(&messages, "Video", &path), "{field:?}: {path}");
        }
        assert!(!is_in(&messages, "SearchRequest", "fresh.nothing"));
        assert!(!is_in(&messages, "SearchRequest", "k[1]"));
    }
}
