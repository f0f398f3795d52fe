// Shapes that know their area, groups of shapes, and what is thrown when one makes no sense.

#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace drawing {

enum class Colour { Red, Green, Blue };

struct Point {
	double x, y;
};

class BadShape : public std::runtime_error {
public:
	using std::runtime_error::runtime_error;
};

class Shape {
public:
	Shape(std::string name, Colour colour) : name_(std::move(name)), colour_(colour) {}
	virtual ~Shape() = default;
	virtual double area(double scale) const = 0;
	const std::string &name() const { return name_; }
	Colour colour() const { return colour_; }

private:
	std::string name_;
	Colour colour_;
};

class Circle : public Shape {
public:
	Circle(Point centre, double radius, Colour colour);
	double area(double scale) const override;

private:
	Point centre_;
	double radius_;
};

class Rectangle : public Shape {
public:
	Rectangle(Point corner, double width, double height, Colour colour);
	double area(double scale) const override;

private:
	Point corner_;
	double width_, height_;
};

class Group : public Shape {
public:
	explicit Group(std::string name) : Shape(std::move(name), Colour::Red) {}
	Group &add(std::unique_ptr<Shape> shape);
	double area(double scale) const override;

private:
	std::vector<std::unique_ptr<Shape>> shapes_;
};

} // namespace drawing
