// Arguments of many types in Rust. Every call of sink is compared with gdb.
pub struct Point { pub x: i32, pub y: i64 }
pub struct Pair(pub i32, pub u8);
pub struct Unit;
pub enum Shape { Circle(f64), Square { side: i32, name: &'static str }, Nothing }
#[derive(Clone, Copy)]
pub enum Color { Red, Green = 5 }

static mut SINK: i32 = 0;
#[no_mangle]
#[inline(never)]
pub extern "C" fn sink(value: i32) { unsafe { SINK += value; } }

#[inline(never)]
fn scalars(a: i8, b: u8, c: u128, d: f32, e: bool, f: char, g: usize) { sink(a as i32 + b as i32 + c as i32 + d as i32 + e as i32 + f as i32 + g as i32); }
#[inline(never)]
fn records(point: Point, pair: &Pair, _unit: Unit, tuple: (i32, u16), array: [i32; 3], text: &str, nested: (Point, Pair)) {
    sink(point.x + pair.0 + tuple.0 + array[1] + text.len() as i32 + nested.1 .0);
}
#[inline(never)]
fn choices(circle: Shape, square: Shape, nothing: Shape, color: Color, some: Option<i32>, none: Option<i32>, niche: Option<&i32>, empty: Option<&i32>, result: Result<u8, i32>) {
    sink(match (circle, square, nothing) { (Shape::Circle(r), Shape::Square { side, .. }, _) => r as i32 + side, _ => 0 });
    sink(color as i32 + some.unwrap_or(1) + none.unwrap_or(2) + niche.copied().unwrap_or(0) + empty.copied().unwrap_or(0) + result.is_ok() as i32);
}

fn main() {
    let n = std::env::args().count() as i32;
    scalars(-3, 200, 1 << 100, 0.1, true, 'x', 77);
    records(Point { x: n, y: -9 }, &Pair(n, 7), Unit, (n, 2), [1, 2, n], "text", (Point { x: 1, y: 2 }, Pair(3, 4)));
    choices(Shape::Circle(1.5), Shape::Square { side: n, name: "sq" }, Shape::Nothing, if n > 9 { Color::Red } else { Color::Green }, Some(n), None, Some(&n), None, Ok(4));
}
