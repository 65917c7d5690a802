"""The paper's figures, a module each: `numbers(runs, args)` gives as JSON what `draw(plt, numbers)` draws."""
