//! The stack file's JSON schema.

use schemars::{Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::Value;

use super::raw::RawStack;

/// The JSON schema (2020-12) of a stack file, generated from the types that it is read into. Editors can check with it; it
/// holds what can be said of one value alone: keys, types, enumerations, bounds.
///
/// Keys of its own: `x-hint` says how to write a value, `x-secret` that only a reference may stand there.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with_transform(RecursiveTransform(strip_null))
        .into_generator();
    generator.into_root_schema_for::<RawStack>().into()
}

/// TOML has no null: what is optional is left out, so the schema does not offer it.
fn strip_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(options)) = schema.get_mut("anyOf") {
        options.retain(|option| option.get("type") != Some(&Value::from("null")));
        if let [only] = options.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            if let Value::Object(only) = only {
                for (key, value) in only {
                    if schema.get(&key).is_none() {
                        schema.insert(key, value);
                    }
                }
            }
        }
    }
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
}
