//! The function registry: DataFusion's functions, and what is added to them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};

use super::manners::Operators;
use super::time_fields::TimeFields;

/// Functions by name, in lower case; a later one takes the place of an earlier one of its name.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
    higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Functions {
    /// DataFusion's own.
    pub fn builtin() -> Self {
        let mut functions = Self { expr_planners: SessionStateDefaults::default_expr_planners(), ..Self::default() };
        for function in SessionStateDefaults::default_scalar_functions() {
            // `version()` is the server's, not the library's.
            if function.name() != "version" {
                functions.add_scalar(function);
            }
        }
        // In the place of DataFusion's.
        for function in super::clock::functions() {
            functions.add_scalar(function);
        }
        for function in SessionStateDefaults::default_aggregate_functions() {
            functions.add_aggregate(function);
        }
        for function in SessionStateDefaults::default_window_functions() {
            functions.add_window(function);
        }
        // In the place of DataFusion's.
        for function in super::shift::functions() {
            functions.add_window(function);
        }
        for function in SessionStateDefaults::default_higher_order_functions() {
            for alias in function.aliases() {
                functions.higher_order.insert(alias.clone(), Arc::clone(&function));
            }
            functions.higher_order.insert(function.name().to_owned(), function);
        }
        functions.add_expr_planner(Arc::new(TimeFields));
        functions
    }

    /// Adds scalar functions, those among them that operators and casts stand for.
    #[must_use]
    pub fn with_scalars(mut self, functions: Vec<Arc<ScalarUDF>>) -> Self {
        self.add_expr_planner(Arc::new(Operators::new(&functions)));
        functions.into_iter().for_each(|function| self.add_scalar(function));
        self
    }

    /// Adds a scalar function.
    pub fn add_scalar(&mut self, function: Arc<ScalarUDF>) {
        for alias in function.aliases() {
            self.scalar.insert(alias.clone(), Arc::clone(&function));
        }
        self.scalar.insert(function.name().to_owned(), function);
    }

    /// Adds an aggregate function.
    pub fn add_aggregate(&mut self, function: Arc<AggregateUDF>) {
        for alias in function.aliases() {
            self.aggregate.insert(alias.clone(), Arc::clone(&function));
        }
        self.aggregate.insert(function.name().to_owned(), function);
    }

    /// Adds a window function.
    pub fn add_window(&mut self, function: Arc<WindowUDF>) {
        for alias in function.aliases() {
            self.window.insert(alias.clone(), Arc::clone(&function));
        }
        self.window.insert(function.name().to_owned(), function);
    }

    /// Adds what plans operators and special syntax of expressions; asked before those that are there.
    pub fn add_expr_planner(&mut self, planner: Arc<dyn ExprPlanner>) {
        self.expr_planners.insert(0, planner);
    }

    /// The scalar function of this name.
    pub fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(name).cloned()
    }

    /// The aggregate function of this name.
    pub fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregate.get(name).cloned()
    }

    /// The window function of this name.
    pub fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.window.get(name).cloned()
    }

    /// The function of this name that takes functions.
    pub fn higher_order(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.higher_order.get(name).cloned()
    }

    /// What plans operators and special syntax of expressions.
    pub fn expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    /// All scalar functions, each once.
    pub fn scalars(&self) -> Vec<Arc<ScalarUDF>> {
        let names: BTreeSet<&str> = self.scalar.values().map(|function| function.name()).collect();
        names.into_iter().filter_map(|name| self.scalar(name)).collect()
    }

    /// All aggregate functions, each once.
    pub fn aggregates(&self) -> Vec<Arc<AggregateUDF>> {
        let names: BTreeSet<&str> = self.aggregate.values().map(|function| function.name()).collect();
        names.into_iter().filter_map(|name| self.aggregate(name)).collect()
    }

    /// All window functions, each once.
    pub fn windows(&self) -> Vec<Arc<WindowUDF>> {
        let names: BTreeSet<&str> = self.window.values().map(|function| function.name()).collect();
        names.into_iter().filter_map(|name| self.window(name)).collect()
    }

    /// Names of all functions that take functions.
    pub fn higher_order_names(&self) -> Vec<String> {
        self.higher_order.keys().cloned().collect()
    }
}
