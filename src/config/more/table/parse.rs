//! The statements of a table.

use super::expression::{self, Expression};

/// One statement.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    /// `name = expression`
    Let(&'static str, Expression),
    /// `part NAME KIND hidden`: what follows belongs to it.
    Part { name: &'static str, kind: &'static str, hidden: Expression },
    /// `layers PREFIX count heads=.. ...` to `end`: the variable `i` is the layer's number.
    Layers { prefix: &'static str, count: Expression, options: Vec<(&'static str, Expression)>, body: Vec<Self> },
    /// `for i count` to `end`.
    For { variable: &'static str, count: Expression, body: Vec<Self> },
    /// `if condition` ... `else` ... `end`.
    If { condition: Expression, yes: Vec<Self>, no: Vec<Self> },
    /// `with KEY` to `end`: keys of a nested object.
    With { path: &'static str, body: Vec<Self> },
    /// `block NAME(a,b)` to `end`.
    Block { name: &'static str, parameters: Vec<&'static str>, body: Vec<Self> },
    /// `use BLOCK argument ...`: an argument that begins with `'` is a text with `{}` filled in.
    Use { block: &'static str, arguments: Vec<Argument> },
    /// `linear NAME in out [? bias]` and its kin.
    Tensor { form: Form, name: &'static str, dims: Vec<Expression>, bias: Option<Expression> },
    /// `must condition @key why`
    Must { condition: Expression, key: &'static str, why: &'static str },
    /// `say sentence`: an assumption.
    Say(&'static str),
    /// `sub NAME KIND KEY default=TYPE at=PREFIX class=CLASS`: a nested config read by its own family.
    Sub { name: &'static str, kind: &'static str, key: &'static str, options: Vec<(&'static str, &'static str)> },
    /// `language KEY default=TYPE behind=PREFIX|inside=PREFIX tie=.. head=..`: the language model inside.
    Language { key: &'static str, options: Vec<(&'static str, &'static str)> },
    /// `touch key ...`: keys that change nothing here.
    Touch(Vec<&'static str>),
    /// `unnamed CLASS`: the class that counts when the config names none.
    Unnamed(&'static str),
}

/// An argument of a block.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    Text(&'static str),
    Value(Expression),
}

/// Forms of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A matrix with a bias: inputs, outputs.
    Linear,
    /// A matrix without.
    Matrix,
    /// A LayerNorm (or batch norm) with weight and bias.
    Norm,
    /// A norm without a bias.
    Scale,
    /// An embedding table: rows, width.
    Table,
    /// A convolution: outputs, inputs per group, kernel ... with a bias.
    Convolution,
    /// A convolution without a bias.
    Kernel,
    /// A tensor by its full name and shape.
    Tensor,
    /// Matrices of routed experts: how many, inputs, outputs; `{}` in the name is their number.
    Experts,
}

const FORMS: &[(&str, Form)] = &[
    ("linear", Form::Linear),
    ("matrix", Form::Matrix),
    ("norm", Form::Norm),
    ("scale", Form::Scale),
    ("table", Form::Table),
    ("conv", Form::Convolution),
    ("kernel", Form::Kernel),
    ("tensor", Form::Tensor),
    ("experts", Form::Experts),
];

/// The statements of a table; an error is the line that is none.
pub(super) fn parse(text: &'static str) -> Result<Vec<Statement>, &'static str> {
    let mut lines = text.lines().map(|line| line.split(" #").next().unwrap_or(line).trim()).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (statements, end) = body(&mut lines)?;
    if end.is_empty() { Ok(statements) } else { Err(end) }
}

/// Statements up to `end` or `else`, which comes back too; empty at the end of the text.
fn body(lines: &mut dyn Iterator<Item = &'static str>) -> Result<(Vec<Statement>, &'static str), &'static str> {
    let mut statements = Vec::new();
    while let Some(line) = lines.next() {
        if line == "end" || line == "else" {
            return Ok((statements, line));
        }
        statements.push(statement(line, lines)?);
    }
    Ok((statements, ""))
}

fn closed(lines: &mut dyn Iterator<Item = &'static str>, line: &'static str) -> Result<Vec<Statement>, &'static str> {
    match body(lines)? {
        (statements, "end") => Ok(statements),
        _ => Err(line),
    }
}

fn statement(line: &'static str, lines: &mut dyn Iterator<Item = &'static str>) -> Result<Statement, &'static str> {
    // `... if condition` at the end of a line.
    if let Some((simple, condition)) = line.split_once(" if ").filter(|_| !line.starts_with("must ")) {
        let condition = expression::parse(condition.trim()).ok_or(line)?;
        return Ok(Statement::If { condition, yes: vec![plain(simple.trim(), lines)?], no: Vec::new() });
    }
    plain(line, lines)
}

fn plain(line: &'static str, lines: &mut dyn Iterator<Item = &'static str>) -> Result<Statement, &'static str> {
    let of = |text: &'static str| expression::parse(text).ok_or(line);
    if let Some((name, value)) = line.split_once(" = ") {
        return Ok(Statement::Let(name.trim(), of(value.trim())?));
    }
    let (word, rest) = line.split_once(' ').ok_or(line)?;
    let rest = rest.trim();
    let mut words = rest.split_whitespace();
    let mut next = || words.next().ok_or(line);
    Ok(match word {
        "part" => Statement::Part { name: next()?, kind: next()?, hidden: of(next()?)? },
        "layers" => {
            let (prefix, count) = (next()?, of(next()?)?);
            let options = words.map(|option| option.split_once('=').and_then(|(name, value)| Some((name, expression::parse(value)?))).ok_or(line));
            Statement::Layers { prefix, count, options: options.collect::<Result<_, _>>()?, body: closed(lines, line)? }
        }
        "for" => Statement::For { variable: next()?, count: of(next()?)?, body: closed(lines, line)? },
        "if" => {
            let condition = of(next()?)?;
            let (yes, end) = body(lines)?;
            let no = match end {
                "else" => closed(lines, line)?,
                "end" => Vec::new(),
                _ => return Err(line),
            };
            Statement::If { condition, yes, no }
        }
        "with" => Statement::With { path: next()?, body: closed(lines, line)? },
        "block" => {
            let (name, parameters) = rest.strip_suffix(')').and_then(|head| head.split_once('(')).ok_or(line)?;
            Statement::Block { name, parameters: parameters.split(',').filter(|name| !name.is_empty()).collect(), body: closed(lines, line)? }
        }
        "use" => {
            let block = next()?;
            let argument = |text: &'static str| match text.strip_prefix('\'') {
                Some(text) => Ok(Argument::Text(text)),
                None => of(text).map(Argument::Value),
            };
            Statement::Use { block, arguments: words.map(argument).collect::<Result<_, _>>()? }
        }
        "must" => {
            let (condition, key) = (of(next()?)?, next()?);
            Statement::Must { condition, key, why: rest.split_once(key).map(|(_, why)| why.trim()).ok_or(line)? }
        }
        "say" => Statement::Say(rest),
        "touch" => Statement::Touch(words.collect()),
        "unnamed" => Statement::Unnamed(next()?),
        "sub" => Statement::Sub { name: next()?, kind: next()?, key: next()?, options: options(words).ok_or(line)? },
        "language" => Statement::Language { key: next()?, options: options(words).ok_or(line)? },
        form => {
            let form = FORMS.iter().find(|(name, _)| *name == form).map(|(_, form)| *form).ok_or(line)?;
            let name = next()?;
            let (dims, bias) = match rest.split_once(" ? ") {
                Some((dims, bias)) => (dims, Some(of(bias.trim())?)),
                None => (rest, None),
            };
            Statement::Tensor { form, name, dims: dims.split_whitespace().skip(1).map(of).collect::<Result<_, _>>()?, bias }
        }
    })
}

fn options(words: std::str::SplitWhitespace<'static>) -> Option<Vec<(&'static str, &'static str)>> {
    words.map(|option| option.split_once('=')).collect()
}

