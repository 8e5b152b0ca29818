"""The parts of `training.finetune`: data in rows, students that learn, states that survive."""
