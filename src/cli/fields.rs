//! Replies of `SAPWOOD`'s own commands: maps of names and values, and lists of such maps.

use sapwood::client::resp::Frame;
use serde_json::{Map, Value};

use super::output;
use super::target::{bytes, unexpected};

/// One map of a reply, as `--json` shows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fields(pub(crate) Map<String, Value>);

/// The maps of a reply that is a list of them.
pub(crate) fn rows(reply: &Frame) -> anyhow::Result<Vec<Fields>> {
    match reply {
        Frame::Array(rows) => rows.iter().map(Fields::from_frame).collect(),
        other => unexpected("a list", other),
    }
}

/// The JSON list of `rows`.
pub(crate) fn json(rows: Vec<Fields>) -> Value {
    rows.into_iter().map(|row| Value::Object(row.0)).collect()
}

impl Fields {
    /// Converts a reply. A field with bytes that are not UTF-8 is renamed `NAME_base64` and encoded.
    pub(crate) fn from_frame(reply: &Frame) -> anyhow::Result<Fields> {
        let Frame::Map(pairs) = reply else { return unexpected("names and values", reply) };
        let mut fields = Map::new();
        for (name, value) in pairs {
            let name = String::from_utf8_lossy(bytes(name)?);
            match value {
                Frame::Bulk(text) => fields.extend(output::json_bytes(&name, text)),
                value => {
                    fields.insert(name.into_owned(), plain(value)?);
                }
            }
        }
        Ok(Fields(fields))
    }

    /// The text of a field, made safe for a terminal; empty if the field is missing.
    pub(crate) fn text(&self, name: &str) -> String {
        let text = self.0.get(name).and_then(Value::as_str).unwrap_or_default();
        output::printable(text.as_bytes())
    }

    /// The number in a field; `None` for -1.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    /// The count in a field; 0 if the field is missing.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.number(name).unwrap_or(0)
    }

    /// The texts of a list, joined with commas.
    pub(crate) fn list(&self, name: &str) -> String {
        let texts = self.0.get(name).and_then(Value::as_array).into_iter().flatten();
        let texts: Vec<_> =
            texts.filter_map(Value::as_str).map(|text| output::printable(text.as_bytes())).collect();
        texts.join(", ")
    }
}

fn plain(value: &Frame) -> anyhow::Result<Value> {
    Ok(match value {
        Frame::Int(number) => (*number).into(),
        Frame::Bool(flag) => (*flag).into(),
        Frame::Null => Value::Null,
        Frame::Array(values) => values.iter().map(plain).collect::<Result<_, _>>()?,
        text => String::from_utf8_lossy(bytes(text)?).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Frame {
        Frame::Bulk(text.into())
    }

    #[test]
    fn a_map_keeps_its_types() {
        let reply = Frame::Map(vec![
            (text("name"), text("b\n")),
            (text("lag_ms"), Frame::Int(3)),
            (text("verified_ms"), Frame::Int(-1)),
            (text("waits_for"), Frame::Array(vec![text("b"), text("c")])),
            (text("value"), Frame::Null),
            (text("key"), Frame::Bulk(vec![0xff, 0xfe].into())),
        ]);
        let fields = Fields::from_frame(&reply).unwrap();
        assert_eq!((fields.text("name").as_str(), fields.text("none").as_str()), ("b\\n", ""));
        assert_eq!((fields.number("lag_ms"), fields.number("verified_ms")), (Some(3), None));
        assert_eq!((fields.count("lag_ms"), fields.count("none")), (3, 0));
        assert_eq!((fields.list("waits_for").as_str(), fields.list("none").as_str()), ("b, c", ""));
        assert_eq!(fields.0["value"], Value::Null);
        assert_eq!(fields.0["key_base64"], "//4=");
        assert_eq!(rows(&Frame::Array(vec![reply])).unwrap(), [fields]);
    }

    #[test]
    fn another_shape_is_an_error() {
        for reply in [Frame::Null, Frame::Int(1), Frame::Array(vec![Frame::Int(1)])] {
            assert!(rows(&reply).unwrap_err().to_string().contains("is it Sapwood?"));
        }
    }
}
