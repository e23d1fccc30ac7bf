//! Expressions of the tables: whole numbers, ratios, texts and lists, from config keys and variables.
//!
//! ```text
//! @hidden_size            a key that must be there, a whole number of at least 1, a flag, a text or a list
//! @?type_vocab_size:2     zero and negative numbers allowed; 2 where the config says nothing
//! @backbone_config.depths[i]   a key of a nested object, and an entry of its list
//! hidden/heads  (a+b)*c  a%b  a==b  a!=b  a<b  a>b  a&b  a|b  !a  a?b:c  [1,2]  'text'  null  len(list)
//! ```

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::super::{ConfigError, Fields};

/// What an expression gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Number(u64),
    /// A number that is not a whole one, or below zero.
    Ratio(f64),
    Text(String),
    List(Vec<Value>),
}

/// A parsed expression.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Value(Value),
    Variable(&'static str),
    Key { path: &'static str, zero: bool, default: Option<Box<Self>> },
    List(Vec<Self>),
    Index(Box<Self>, Box<Self>),
    Call(&'static str, Vec<Self>),
    Binary(&'static str, Box<Self>, Box<Self>),
    Not(Box<Self>),
    If(Box<Self>, Box<Self>, Box<Self>),
}

/// What expressions are evaluated in: variables, and the object that keys stand in.
pub(super) struct Scope {
    pub variables: BTreeMap<String, Value>,
    /// The object that keys are read from.
    pub fields: Fields,
    /// The class that counts, and those that were asked for.
    pub class: String,
}

/// The largest number that a key may hold, as everywhere.
const MAX: u64 = 1 << 40;

/// Loosest first.
const OPERATORS: &[&[&str]] = &[&["|"], &["&"], &["==", "!=", "<=", ">=", "<", ">"], &["+", "-"], &["*", "/", "%"]];

/// Parses an expression; `None` when it is not one.
pub(super) fn parse(text: &'static str) -> Option<Expression> {
    let mut parser = Parser { text, at: 0 };
    let expression = parser.choice()?;
    (parser.at == text.len()).then_some(expression)
}

struct Parser {
    text: &'static str,
    at: usize,
}

impl Parser {
    fn rest(&self) -> &'static str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let is_there = self.rest().starts_with(token);
        if is_there {
            self.at += token.len();
        }
        is_there
    }

    fn word(&mut self, more: &str) -> Option<&'static str> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || more.contains(c))).unwrap_or(rest.len());
        self.at += end;
        (end > 0).then(|| &rest[..end])
    }

    fn choice(&mut self) -> Option<Expression> {
        let condition = self.operators(0)?;
        if !self.eat("?") {
            return Some(condition);
        }
        let yes = self.choice()?;
        if !self.eat(":") {
            return None;
        }
        Some(Expression::If(Box::new(condition), Box::new(yes), Box::new(self.choice()?)))
    }

    fn operators(&mut self, level: usize) -> Option<Expression> {
        let Some(operators) = OPERATORS.get(level) else { return self.unary() };
        let mut left = self.operators(level + 1)?;
        while let Some(operator) = operators.iter().find(|operator| self.rest().starts_with(**operator)) {
            self.at += operator.len();
            left = Expression::Binary(operator, Box::new(left), Box::new(self.operators(level + 1)?));
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Expression> {
        if self.eat("!") {
            return Some(Expression::Not(Box::new(self.unary()?)));
        }
        let mut value = self.atom()?;
        while self.eat("[") {
            let index = self.choice()?;
            if !self.eat("]") {
                return None;
            }
            value = Expression::Index(Box::new(value), Box::new(index));
        }
        Some(value)
    }

    fn list(&mut self, end: &str) -> Option<Vec<Expression>> {
        let mut items = Vec::new();
        while !self.eat(end) {
            items.push(self.choice()?);
            self.eat(",");
        }
        Some(items)
    }

    fn atom(&mut self) -> Option<Expression> {
        if self.eat("(") {
            let inner = self.choice()?;
            return self.eat(")").then_some(inner);
        }
        if self.eat("[") {
            return self.list("]").map(Expression::List);
        }
        if self.eat("'") {
            let text = self.rest().split('\'').next()?;
            self.at += text.len() + 1;
            return Some(Expression::Value(Value::Text(text.to_owned())));
        }
        if self.eat("@") {
            let zero = self.eat("?");
            let path = self.word(".")?;
            let default = if self.eat(":") { Some(Box::new(self.atom()?)) } else { None };
            return Some(Expression::Key { path, zero, default });
        }
        if self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            let number = self.word(".")?;
            let value = number.parse().map(Value::Number).or_else(|_| number.parse().map(Value::Ratio)).ok()?;
            return Some(Expression::Value(value));
        }
        let name = self.word("")?;
        Some(match name {
            "null" => Expression::Value(Value::Null),
            "true" => Expression::Value(Value::Number(1)),
            "false" => Expression::Value(Value::Number(0)),
            _ if self.eat("(") => Expression::Call(name, self.list(")")?),
            _ => Expression::Variable(name),
        })
    }
}

impl Value {
    /// What a config holds; objects are none of these.
    fn from_json(json: &Json) -> Option<Self> {
        Some(match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Number(u64::from(*flag)),
            Json::Number(number) => match number.as_u64() {
                Some(whole) => Self::Number(whole).checked()?,
                None => Self::from_float(number.as_f64()?)?,
            },
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(list) => Self::List(list.iter().map(Self::from_json).collect::<Option<_>>()?),
            Json::Object(_) => return None,
        })
    }

    fn from_float(float: f64) -> Option<Self> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // what does not survive is no whole number
        let whole = float as u64;
        #[allow(clippy::cast_precision_loss, clippy::float_cmp)]
        let is_whole = whole as f64 == float;
        if is_whole { Self::Number(whole).checked() } else { float.is_finite().then_some(Self::Ratio(float)) }
    }

    fn checked(self) -> Option<Self> {
        Some(self).filter(|value| !matches!(value, Self::Number(number) if *number > MAX))
    }

    /// Whether it counts as true: not zero, not empty, not null.
    pub(super) fn holds(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Number(number) => *number > 0,
            Self::Ratio(_) => true,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
        }
    }

    fn is_positive(&self) -> bool {
        match self {
            Self::Number(number) => *number > 0,
            Self::Ratio(ratio) => *ratio > 0.0,
            Self::Null | Self::Text(_) => true,
            Self::List(list) => list.iter().all(Self::is_positive),
        }
    }
}

impl Expression {
    /// The first key in it, for messages.
    fn key(&self) -> Option<&'static str> {
        match self {
            Self::Key { path, .. } => Some(path),
            Self::Binary(_, a, b) | Self::Index(a, b) => a.key().or_else(|| b.key()),
            Self::Not(a) => a.key(),
            Self::If(a, b, c) => b.key().or_else(|| c.key()).or_else(|| a.key()),
            Self::List(list) | Self::Call(_, list) => list.iter().find_map(Self::key),
            Self::Value(_) | Self::Variable(_) => None,
        }
    }

    fn wrong(&self, scope: &Scope, why: &'static str) -> ConfigError {
        match self.key() {
            Some(path) => scope.impossible(path, why),
            None => ConfigError::Overflow,
        }
    }

    /// Its value as a whole number.
    pub(super) fn number(&self, scope: &Scope) -> Result<u64, ConfigError> {
        match self.value(scope)? {
            Value::Number(number) => Ok(number),
            _ => Err(self.wrong(scope, "it must be a whole number in this family")),
        }
    }

    /// Its value.
    pub(super) fn value(&self, scope: &Scope) -> Result<Value, ConfigError> {
        Ok(match self {
            Self::Value(value) => value.clone(),
            Self::Variable(name) => scope.variables.get(*name).cloned().ok_or_else(|| ConfigError::Table((*name).to_owned()))?,
            Self::Key { path, zero, default } => match scope.key(path)? {
                Some(value) if *zero || value.is_positive() => value,
                Some(_) => return Err(scope.impossible(path, "it must be at least 1")),
                None => match default {
                    Some(default) => default.value(scope)?,
                    None => return Err(ConfigError::Missing { key: path, model_type: scope.fields.model_type() }),
                },
            },
            Self::List(items) => Value::List(items.iter().map(|item| item.value(scope)).collect::<Result<_, _>>()?),
            Self::Index(list, index) => {
                let index = index.number(scope)?;
                match list.value(scope)? {
                    Value::List(items) => usize::try_from(index).ok().and_then(|index| items.get(index).cloned()),
                    _ => None,
                }
                .ok_or_else(|| list.wrong(scope, "it must be a list with an entry for each part of the model"))?
            }
            Self::Not(inner) => Value::Number(u64::from(!inner.value(scope)?.holds())),
            Self::If(condition, yes, no) => if condition.value(scope)?.holds() { yes } else { no }.value(scope)?,
            Self::Call(name, arguments) => self.call(scope, name, arguments)?,
            Self::Binary(operator, left, right) => self.binary(scope, operator, &left.value(scope)?, || right.value(scope))?,
        })
    }

    fn binary(&self, scope: &Scope, operator: &str, left: &Value, right: impl Fn() -> Result<Value, ConfigError>) -> Result<Value, ConfigError> {
        let flag = |flag: bool| Ok(Value::Number(u64::from(flag)));
        match operator {
            "&" if !left.holds() => return flag(false),
            "|" if left.holds() => return flag(true),
            _ => {}
        }
        let right = right()?;
        match (operator, left, &right) {
            ("&" | "|", _, right) => flag(right.holds()),
            ("==", left, right) => flag(left == right),
            ("!=", left, right) => flag(left != right),
            ("*", Value::Number(width), Value::Ratio(ratio)) | ("*", Value::Ratio(ratio), Value::Number(width)) => {
                scaled(*width, *ratio).ok_or_else(|| self.wrong(scope, "it must be a positive ratio"))
            }
            (operator, Value::Number(a), Value::Number(b)) => whole(operator, *a, *b).ok_or_else(|| self.wrong(scope, "the sizes of this model do not go together with it")),
            _ => Err(self.wrong(scope, "it is not of the kind that this family has there")),
        }
    }

    fn call(&self, scope: &Scope, name: &str, arguments: &[Self]) -> Result<Value, ConfigError> {
        let flag = |flag: bool| Ok(Value::Number(u64::from(flag)));
        let values = arguments.iter().map(|argument| argument.value(scope)).collect::<Result<Vec<_>, _>>()?;
        match (name, values.as_slice()) {
            ("class", endings) => flag(endings.iter().any(|ending| matches!(ending, Value::Text(ending) if scope.class.ends_with(ending.as_str())))),
            ("type", types) => flag(types.contains(&Value::Text(scope.fields.model_type()))),
            ("len", [Value::List(list)]) => Ok(Value::Number(list.len() as u64)),
            ("list", [Value::List(_)]) => Ok(values[0].clone()),
            ("list", [one]) => Ok(Value::List(vec![one.clone(), one.clone()])),
            ("is_list", [one]) => flag(matches!(one, Value::List(_))),
            ("last", [Value::List(list)]) if !list.is_empty() => Ok(list[list.len() - 1].clone()),
            ("has", [Value::List(list), one]) => flag(list.contains(one)),
            ("count", [Value::List(list), one]) => Ok(Value::Number(list.iter().filter(|item| *item == one).count() as u64)),
            ("sum", [Value::List(list)]) => {
                let add = |sum: Option<u64>, item: &Value| match item {
                    Value::Number(number) => sum?.checked_add(*number),
                    _ => None,
                };
                list.iter().fold(Some(0), add).map(Value::Number).ok_or_else(|| self.wrong(scope, "it must be a list of whole numbers"))
            }
            ("max", [Value::Number(a), Value::Number(b)]) => Ok(Value::Number(*a.max(b))),
            ("min", [Value::Number(a), Value::Number(b)]) => Ok(Value::Number(*a.min(b))),
            ("up", [Value::Number(a), Value::Number(b)]) if *b > 0 => Ok(Value::Number(a.div_ceil(*b))),
            ("power", [Value::Number(a), Value::Number(b)]) => {
                u32::try_from(*b).ok().and_then(|b| a.checked_pow(b)).map(Value::Number).ok_or(ConfigError::Overflow)
            }
            _ => Err(self.wrong(scope, "it is not of the kind that this family has there")),
        }
    }
}

/// A width times a ratio, rounded down as Python's `int` does.
fn scaled(width: u64, ratio: f64) -> Option<Value> {
    #[allow(clippy::cast_precision_loss)] // widths of real models are far below 2^53
    let product = width as f64 * ratio;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..=1e12).contains(&product).then(|| Value::Number(product as u64))
}

fn whole(operator: &str, a: u64, b: u64) -> Option<Value> {
    Some(Value::Number(match operator {
        "+" => a.checked_add(b)?,
        "-" => a.checked_sub(b)?,
        "*" => a.checked_mul(b)?,
        "/" => a.checked_div(b)?,
        "%" => a.checked_rem(b)?,
        "<" => u64::from(a < b),
        ">" => u64::from(a > b),
        "<=" => u64::from(a <= b),
        ">=" => u64::from(a >= b),
        _ => return None,
    }))
}

impl Scope {
    /// What stands under a key, or under `outer.inner` in a nested object; `None` when it is absent or null.
    fn key(&self, path: &str) -> Result<Option<Value>, ConfigError> {
        if let Some((outer, inner)) = path.split_once('.') {
            let Some(nested) = self.fields.nested(&[outer])? else { return Ok(None) };
            let scope = Self { variables: BTreeMap::new(), fields: nested, class: String::new() };
            return scope.key(inner);
        }
        match self.fields.raw(path) {
            None => Ok(None),
            Some(json) => Value::from_json(json).map(Some).ok_or_else(|| self.fields.impossible(path, "it must be a size up to 2^40, a flag, a text or a list of them")),
        }
    }

    fn impossible(&self, path: &'static str, why: &'static str) -> ConfigError {
        self.fields.impossible(path, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(expression: &'static str) -> Result<Value, ConfigError> {
        let config = serde_json::json!({"hidden": 64, "none": null, "flag": true, "ratio": 2.5, "list": [1, 2, 3], "zero": 0, "inner": {"depth": 7}, "text": "x"});
        let fields = Fields::new(config).unwrap();
        let scope = Scope { variables: BTreeMap::from([("n".to_owned(), Value::Number(3))]), fields, class: "BertModel".to_owned() };
        parse(expression).unwrap_or_else(|| panic!("{expression}")).value(&scope)
    }

    #[test]
    fn expressions_give_what_they_say() {
        for (expression, expected) in [
            ("1+2*3", 7),
            ("(1+2)*n", 9),
            ("@hidden/4-1", 15),
            ("@hidden*@ratio", 160),
            ("@none:12", 12),
            ("@list[2]+len(@list)+sum(@list)", 12),
            ("@inner.depth", 7),
            ("@inner.width:5", 5),
            ("@?zero", 0),
            ("@flag&!@?zero", 1),
            ("@text=='x'?10:20", 10),
            ("@flag?(@none:4):(@missing)", 4),
            ("class('Model')", 1),
            ("up(@hidden,60)", 2),
            ("has(@list,3)+has(@list,4)", 1),
        ] {
            assert_eq!(value(expression), Ok(Value::Number(expected)), "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_names_its_key() {
        for (expression, key) in [("@missing", "missing"), ("@zero", "zero"), ("@hidden/@?zero", "hidden"), ("@list[3]", "list"), ("@text+1", "text"), ("1-@hidden", "hidden")] {
            let error = value(expression).unwrap_err().to_string();
            assert!(error.contains(key), "{expression}: {error}");
        }
        assert!(parse("1+").is_none() && parse("(1").is_none() && parse("a b").is_none());
    }
}
