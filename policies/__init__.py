"""What the organisation allows: budgets, margins, floors, and to whom they apply."""
