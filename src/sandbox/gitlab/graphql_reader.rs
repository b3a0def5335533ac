//! Reads a GraphQL query: one operation, fields with arguments and selections, inline fragments, variables; no named
//! fragments, no directives.

use std::collections::BTreeMap;

use serde_json::Value;

/// A selected field with its arguments and what is selected of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Field {
    pub(super) alias: String,
    pub(super) name: String,
    pub(super) args: BTreeMap<String, Value>,
    pub(super) fields: Vec<Field>,
    /// The type that it is asked for on, within `... on Type { }`.
    pub(super) on: Option<String>,
}

/// A hand-written reader of the little of GraphQL's grammar that such queries use.
pub(super) struct Parser<'a> {
    tokens: Vec<String>,
    at: usize,
    variables: &'a Value,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &str, variables: &'a Value) -> Self {
        Self {
            tokens: tokens(text),
            at: 0,
            variables,
        }
    }

    pub(super) fn document(mut self) -> Result<Vec<Field>, String> {
        if self.peek() == "query" {
            self.at += 1;
            // The operation's name and its variables' types say nothing that is needed here.
            while !matches!(self.peek(), "{" | "") {
                self.at += 1;
            }
        }
        let fields = self.selection()?;
        if self.at == self.tokens.len() {
            Ok(fields)
        } else {
            Err(self.unexpected())
        }
    }

    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        let token = self.peek().to_owned();
        self.at += 1;
        token
    }

    fn unexpected(&self) -> String {
        match self.peek() {
            "" => "Unexpected end of document".to_owned(),
            token => format!("Parse error on {token:?}"),
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.peek() == token {
            self.at += 1;
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn name(&mut self) -> Result<String, String> {
        if self
            .peek()
            .starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        {
            Ok(self.next())
        } else {
            Err(self.unexpected())
        }
    }

    fn selection(&mut self) -> Result<Vec<Field>, String> {
        self.expect("{")?;
        let mut fields = Vec::new();
        while self.peek() != "}" {
            if self.peek() == "." {
                fields.extend(self.fragment()?);
                continue;
            }
            let alias = self.name()?;
            let name = if self.peek() == ":" {
                self.at += 1;
                self.name()?
            } else {
                alias.clone()
            };
            let mut field = Field {
                alias,
                name,
                ..Field::default()
            };
            if self.peek() == "(" {
                self.at += 1;
                while self.peek() != ")" {
                    let key = self.name()?;
                    self.expect(":")?;
                    let value = self.value()?;
                    field.args.insert(key, value);
                }
                self.at += 1;
            }
            if self.peek() == "{" {
                field.fields = self.selection()?;
            }
            fields.push(field);
        }
        self.at += 1;
        if fields.is_empty() {
            Err(self.unexpected())
        } else {
            Ok(fields)
        }
    }

    /// `... on Type { fields }`
    fn fragment(&mut self) -> Result<Vec<Field>, String> {
        for token in [".", ".", ".", "on"] {
            self.expect(token)?;
        }
        let on = self.name()?;
        let mut fields = self.selection()?;
        for field in &mut fields {
            field.on = Some(on.clone());
        }
        Ok(fields)
    }

    fn value(&mut self) -> Result<Value, String> {
        let token = self.next();
        match token.as_str() {
            "[" => {
                let mut all = Vec::new();
                while self.peek() != "]" {
                    all.push(self.value()?);
                }
                self.at += 1;
                Ok(Value::Array(all))
            }
            "$" => {
                let name = self.name()?;
                Ok(self.variables.get(&name).cloned().unwrap_or(Value::Null))
            }
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            text if text.starts_with('"') => serde_json::from_str(text).map_err(|_| "Bad string".to_owned()),
            text if text.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-') => {
                serde_json::from_str(text).map_err(|_| format!("Bad number {text}"))
            }
            text if text.starts_with(|letter: char| letter.is_ascii_alphabetic()) => {
                Ok(Value::String(text.to_owned()))
            }
            _ => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }
}

/// Splits into names, numbers, strings and punctuation; commas and comments are blank.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let mut token = String::from(letter);
        if letter == '#' {
            while letters.next_if(|letter| *letter != '\n').is_some() {}
            continue;
        } else if letter.is_whitespace() || letter == ',' {
            continue;
        } else if letter == '"' {
            let mut escaped = false;
            for letter in letters.by_ref() {
                token.push(letter);
                if letter == '"' && !escaped {
                    break;
                }
                escaped = letter == '\\' && !escaped;
            }
        } else if letter.is_ascii_alphanumeric() || letter == '_' || letter == '-' {
            while let Some(letter) =
                letters.next_if(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'))
            {
                token.push(letter);
            }
        }
        tokens.push(token);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_usual_query_is_understood() {
        let variables = json!({"after": "abc"});
        let fields = Parser::new(
            "query P($after: String) { jobs(statuses: [PENDING], first: 100, after: $after) { nodes { id tags } pageInfo { endCursor hasNextPage } } }",
            &variables,
        )
        .document()
        .unwrap();
        assert_eq!(fields[0].name, "jobs");
        assert_eq!(fields[0].args["statuses"], json!(["PENDING"]));
        assert_eq!(fields[0].args["after"], json!("abc"));
        assert_eq!(fields[0].fields[0].fields[1].name, "tags");
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for text in ["", "{", "{}", "jobs", "{ jobs( }", "mutation { x }", "{ a } b"] {
            assert!(Parser::new(text, &Value::Null).document().is_err(), "{text:?}");
        }
    }
}
