//! From a value of the engine to its frozen shape, and back.
//!
//! The engine's types change with the rules; data on a disk or for a node of another version must
//! not change. So each of these types has a shape of its own here, which is read and written by
//! position: fields and variants are only ever added, in a shape of a later version.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that has a frozen shape.
pub trait Shaped: Sized {
    /// The shape: what serde reads and writes.
    type Shape: Serialize + DeserializeOwned;

    /// The shape of this value.
    fn to_shape(&self) -> Self::Shape;

    /// The value of a shape.
    fn from_shape(shape: Self::Shape) -> Self;
}

/// The shape of a type.
pub type ShapeOf<T> = <T as Shaped>::Shape;

/// For `#[serde(with = "shape")]` on a field of a message: it is written as its shape.
pub(crate) fn serialize<T: Shaped, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    value.to_shape().serialize(to)
}

/// The other direction of [`serialize`].
pub(crate) fn deserialize<'de, T: Shaped, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    ShapeOf::<T>::deserialize(from).map(T::from_shape)
}

/// Types that are their own shape: numbers, texts, and ids whose form never changes.
macro_rules! own_shape {
    ($($type:ty),* $(,)?) => {$(
        impl Shaped for $type {
            type Shape = Self;

            fn to_shape(&self) -> Self {
                self.clone()
            }

            fn from_shape(shape: Self) -> Self {
                shape
            }
        }
    )*};
}

own_shape!(
    bool,
    u8,
    u32,
    u64,
    u128,
    i64,
    String,
    Box<str>,
    fluxgate_types::BootId,
    fluxgate_types::ClusterMs,
    fluxgate_types::Digest,
    fluxgate_types::DirId,
    fluxgate_types::KeyId,
    fluxgate_types::Subject,
    fluxgate_types::SubjectSeed,
    fluxgate_types::LogIndex,
    fluxgate_types::NodeId,
    fluxgate_types::Scope,
);

impl<T: Shaped> Shaped for Option<T> {
    type Shape = Option<T::Shape>;

    fn to_shape(&self) -> Self::Shape {
        self.as_ref().map(T::to_shape)
    }

    fn from_shape(shape: Self::Shape) -> Self {
        shape.map(T::from_shape)
    }
}

impl<T: Shaped> Shaped for Vec<T> {
    type Shape = Vec<T::Shape>;

    fn to_shape(&self) -> Self::Shape {
        self.iter().map(T::to_shape).collect()
    }

    fn from_shape(shape: Self::Shape) -> Self {
        shape.into_iter().map(T::from_shape).collect()
    }
}

impl<T: Shaped> Shaped for Box<[T]> {
    type Shape = Box<[T::Shape]>;

    fn to_shape(&self) -> Self::Shape {
        self.iter().map(T::to_shape).collect()
    }

    fn from_shape(shape: Self::Shape) -> Self {
        shape.into_iter().map(T::from_shape).collect()
    }
}

impl<T: Shaped> Shaped for Box<T> {
    type Shape = Box<T::Shape>;

    fn to_shape(&self) -> Self::Shape {
        Box::new(T::to_shape(self))
    }

    fn from_shape(shape: Self::Shape) -> Self {
        Self::new(T::from_shape(*shape))
    }
}

impl<T: Shaped> Shaped for Arc<T> {
    type Shape = T::Shape;

    fn to_shape(&self) -> Self::Shape {
        T::to_shape(self)
    }

    fn from_shape(shape: Self::Shape) -> Self {
        Self::new(T::from_shape(shape))
    }
}

impl<K: Shaped + Ord, V: Shaped> Shaped for BTreeMap<K, V>
where
    K::Shape: Ord,
{
    type Shape = BTreeMap<K::Shape, V::Shape>;

    fn to_shape(&self) -> Self::Shape {
        self.iter().map(|(key, value)| (key.to_shape(), value.to_shape())).collect()
    }

    fn from_shape(shape: Self::Shape) -> Self {
        shape.into_iter().map(|(key, value)| (K::from_shape(key), V::from_shape(value))).collect()
    }
}

macro_rules! tuple_shape {
    ($($name:ident $at:tt),*) => {
        impl<$($name: Shaped),*> Shaped for ($($name,)*) {
            type Shape = ($($name::Shape,)*);

            fn to_shape(&self) -> Self::Shape {
                ($(self.$at.to_shape(),)*)
            }

            fn from_shape(shape: Self::Shape) -> Self {
                ($($name::from_shape(shape.$at),)*)
            }
        }
    };
}

tuple_shape!(A 0, B 1);
tuple_shape!(A 0, B 1, C 2);
tuple_shape!(A 0, B 1, C 2, D 3);

/// Declares the shape of a struct or an enum of the engine, with both directions.
///
/// Fields and variants have the engine's names; `#[serde(rename = "…")]` keeps the name under
/// which a shape was frozen. Types are the engine's too; each is written as its own shape. Fields
/// after `without` are not written, and have their default when read.
macro_rules! shape {
    (
        $(#[$meta:meta])*
        struct $shape:ident of $type:ty {
            $($(#[$field_meta:meta])* $field:ident: $of:ty),* $(,)?
        } $(without $($left_out:ident),*)?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct $shape {
            $($(#[$field_meta])* pub(crate) $field: $crate::shape::ShapeOf<$of>,)*
        }

        impl $crate::shape::Shaped for $type {
            type Shape = $shape;

            fn to_shape(&self) -> $shape {
                $shape { $($field: self.$field.to_shape(),)* }
            }

            fn from_shape(shape: $shape) -> Self {
                Self {
                    $($field: $crate::shape::Shaped::from_shape(shape.$field),)*
                    $($($left_out: Default::default(),)*)?
                }
            }
        }
    };
    // An enum whose values are mostly written as variants of their own names; the rest by hand, around
    // `plain` and `into_plain`.
    (
        $(#[$meta:meta])*
        enum $shape:ident of $type:ident {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident
                $(( $inner:ident: $inner_of:ty ))?
                $({ $($(#[$field_meta:meta])* $field:ident: $of:ty),* $(,)? })?
            ),* $(,)?
        } and $beside:ident(Box<$beside_of:ty>) of $otherwise:expr
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $shape {
            $(
                $(#[$variant_meta])*
                $variant
                $(( $crate::shape::ShapeOf<$inner_of> ))?
                $({ $($(#[$field_meta])* $field: $crate::shape::ShapeOf<$of>),* })?,
            )*
            /// What the other variants leave out.
            $beside(Box<$beside_of>),
        }

        impl $shape {
            pub(crate) fn plain(value: &$type) -> Self {
                match value {
                    $(
                        $type::$variant $(( $inner ))? $({ $($field),* })? => Self::$variant
                            $(( $crate::shape::Shaped::to_shape($inner) ))?
                            $({ $($field: $crate::shape::Shaped::to_shape($field)),* })?,
                    )*
                }
            }

            pub(crate) fn into_plain(self) -> $type {
                match self {
                    $(
                        Self::$variant $(( $inner ))? $({ $($field),* })? => $type::$variant
                            $(( $crate::shape::Shaped::from_shape($inner) ))?
                            $({ $($field: $crate::shape::Shaped::from_shape($field)),* })?,
                    )*
                    Self::$beside(beside) => $otherwise(*beside),
                }
            }
        }
    };
    (
        $(#[$meta:meta])*
        enum $shape:ident of $type:ty {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident
                $(( $inner:ident: $inner_of:ty ))?
                $({ $($(#[$field_meta:meta])* $field:ident: $of:ty),* $(,)? })?
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $shape {
            $(
                $(#[$variant_meta])*
                $variant
                $(( $crate::shape::ShapeOf<$inner_of> ))?
                $({ $($(#[$field_meta])* $field: $crate::shape::ShapeOf<$of>),* })?,
            )*
        }

        impl $crate::shape::Shaped for $type {
            type Shape = $shape;

            fn to_shape(&self) -> $shape {
                match self {
                    $(
                        Self::$variant $(( $inner ))? $({ $($field),* })? => $shape::$variant
                            $(( $crate::shape::Shaped::to_shape($inner) ))?
                            $({ $($field: $crate::shape::Shaped::to_shape($field)),* })?,
                    )*
                }
            }

            fn from_shape(shape: $shape) -> Self {
                match shape {
                    $(
                        $shape::$variant $(( $inner ))? $({ $($field),* })? => Self::$variant
                            $(( $crate::shape::Shaped::from_shape($inner) ))?
                            $({ $($field: $crate::shape::Shaped::from_shape($field)),* })?,
                    )*
                }
            }
        }
    };
}

pub(crate) use shape;
