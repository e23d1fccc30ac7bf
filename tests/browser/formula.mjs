// Reads a printed formula ("32 layers × 2 × 8 heads × 128 × 2 B × 8,192 tokens = 1,073,741,824 B") and works it out
// again, so that a test can say whether what is shown is what was counted. Words and units are passed over.

const NUMBER = /\d{1,3}(?:[,\u2009\u202f\u00a0]\d{3})+(?!\d)|\d+(?:\.\d+)?/y;
const WORD = /[\p{L}_][\p{L}\p{N}_.]*/uy;
const SIGNS = { "×": "*", "·": "*", "*": "*", "+": "+", "−": "-", "-": "-", "÷": "/", "/": "/", "⁄": "/", "(": "(", ")": ")", ",": ",", "⌈": "ceil(", "⌉": ")", "⌊": "floor(", "⌋": ")" };
const roundTo = (round) => (value, step = 1) => round(value / step) * step;
const FUNCTIONS = { ceil: roundTo(Math.ceil), floor: roundTo(Math.floor), round: roundTo(Math.round), round_up: roundTo(Math.ceil), round_down: roundTo(Math.floor), min: Math.min, max: Math.max };

function tokens(text) {
  const found = [];
  for (let at = 0; at < text.length; ) {
    const take = (pattern) => {
      pattern.lastIndex = at;
      const match = pattern.exec(text)?.[0];
      if (match) at += match.length;
      return match;
    };
    const number = take(NUMBER);
    if (number) {
      found.push(Number(number.replace(/[^\d.]/g, "")));
      continue;
    }
    const word = take(WORD);
    if (word) {
      if (word in FUNCTIONS && /^\s*\(/.test(text.slice(at))) found.push(word);
      else if (word === "x") found.push("*");
      continue;
    }
    const sign = SIGNS[text[at++]];
    if (sign === undefined) continue;
    if (sign.length > 1 && sign.endsWith("(")) found.push(sign.slice(0, -1), "(");
    else found.push(sign);
  }
  // Remarks in parentheses have lost all their words: "(keys, values)" is "(,)" by now.
  let before;
  do {
    before = found.length;
    for (let i = found.length - 1; i >= 0; i--) {
      if (found[i] !== "(" || found[i - 1] in FUNCTIONS) continue;
      let end = i + 1;
      while (found[end] === ",") end += 1;
      if (found[end] === ")") found.splice(i, end - i + 1);
    }
  } while (found.length < before);
  return found;
}

/** The value of one side of a formula; throws when it is not arithmetic. */
export function value(text) {
  const list = tokens(text);
  let at = 0;
  const expect = (sign) => {
    if (list[at] !== sign) throw new SyntaxError(`expected ${sign} in "${text}"`);
    at += 1;
  };
  const factor = () => {
    const token = list[at++];
    if (typeof token === "number") return token;
    if (token === "-") return -factor();
    if (token === "(") {
      const inner = terms();
      expect(")");
      return inner;
    }
    if (token in FUNCTIONS) {
      expect("(");
      const list_ = [terms()];
      while (list[at] === ",") {
        at += 1;
        list_.push(terms());
      }
      expect(")");
      return FUNCTIONS[token](...list_);
    }
    throw new SyntaxError(`no number in "${text}"`);
  };
  const product = () => {
    let result = factor();
    while (list[at] === "*" || list[at] === "/") result = list[at++] === "*" ? result * factor() : result / factor();
    return result;
  };
  const terms = () => {
    let result = product();
    while (list[at] === "+" || list[at] === "-") result = list[at++] === "+" ? result + product() : result - product();
    return result;
  };
  const result = terms();
  if (at !== list.length) throw new SyntaxError(`two numbers without a sign in "${text}"`);
  return result;
}

/** `{said, computed}`: the figure after the last "=", and what the sides before it come to. */
export function check(text) {
  const sides = text.split("=");
  const said = value(sides.pop());
  const computed = sides.flatMap((side) => {
    try {
      return [value(side)];
    } catch {
      return []; // a side in names: "layers × 2 × heads"
    }
  });
  return { said, computed };
}
