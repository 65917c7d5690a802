"""The paper's figures, a module each: `numbers(runs, args)` gives what is drawn, as JSON, and `draw(plt, numbers)` draws it."""
