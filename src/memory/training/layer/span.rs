//! The convolution beside `ConvBERT`'s heads (Jiang et al., arXiv 2008.02496): its kernels are made of the tokens around each token.

use super::super::modules::{AttentionPart, Module};
use super::super::tape::Value;
use super::{Walk, shape_of};
use crate::formula::{Expr, Source};

impl<'a> Walk<'a, '_> {
    /// The heads' result with that of the convolution beside it, as wide again (transformers 5.23 `ConvBertSelfAttention`).
    pub(super) fn beside_span(&mut self, input: Value, query: Value, context: Value, part: &AttentionPart<'a>) -> Value {
        let [Some(depthwise), Some(pointwise), Some(kernel), Some(values)] = &part.span else { return context };
        let near = self.convolved(input, depthwise);
        let near = self.convolved(near, pointwise);
        let own = self.tape.like(query, self.tape.width(query));
        let flows = self.tape.needs_gradient(near) || self.tape.needs_gradient(own);
        if flows {
            self.tape.save(near);
            self.tape.save(own);
        }
        let product = self.tape.like(near, self.tape.width(near));
        let kernels = self.linear(product, kernel, "values of the kernels", true);
        let moved = self.linear(input, values, "query width", true);
        if self.tape.needs_gradient(kernels) || self.tape.needs_gradient(moved) {
            // Softmax of the kernels, which autocast computes in float32, and each token's neighbourhood.
            let low = self.tape.rules.compute;
            let width = self.tape.width(kernels);
            self.tape.keep(&width, if self.tape.rules.autocast { 4 + low } else { low });
            let side = depthwise.convolution.map_or(1, |of| of.area);
            let side = Expr::leaf(side, "conv_kernel_size", Source::Config("conv_kernel_size".into()));
            let unfolded = Expr::Product(vec![self.tape.width(moved), side]);
            self.tape.keep(&unfolded, low);
            self.tape.works_with(unfolded, 2 * low);
        }
        let both = Expr::Product(vec![Expr::named(2, "(heads and convolution)"), self.tape.width(context)]);
        self.tape.like(context, both)
    }

    /// A convolution over tokens: its backward reads its input even where its weight is frozen.
    fn convolved(&mut self, input: Value, module: &Module<'a>) -> Value {
        if self.tape.needs_gradient(input) {
            self.tape.save(input);
        }
        let outputs = module.convolution.map_or(module.rows, |of| of.outputs);
        let outputs = self.run.width(outputs, "outputs", shape_of(module), true);
        let linear = self.linear_of(module, outputs);
        self.tape.linear(input, &linear)
    }
}
