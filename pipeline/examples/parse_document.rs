//! The parser's process by itself, with the allocator of the product: what the tests of
//! `ParserProcess` start. It is part of nothing that is shipped.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::io::Result<()> {
    stemma_pipeline::child::main(std::io::stdin(), std::io::stdout())
}
