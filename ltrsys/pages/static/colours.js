"use strict";
/* Light and dark, and colours of series that can be told from the ground in both. */
ltrsys.colours = (() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const listeners = [];

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

  /** Return a colour of the style sheet by its name, such as `--text`. */
  const named = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  const channels = (hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));

  /** Return the relative luminance of a colour (WCAG 2.2). */
  function luminance(hex) {
    const [red, green, blue] = channels(hex).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  /** Return the contrast of two colours, 1 to 21 (WCAG 2.2). */
  function contrast(one, other) {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }

  const mixed = (one, other, share) =>
    "#" + channels(one)
      .map((value, place) => Math.round(value + (channels(other)[place] - value) * share))
      .map((value) => value.toString(16).padStart(2, "0"))
      .join("");

  /** Return a colour as near to this one as can be told from the ground of charts: 3 to 1, and more in the dark. */
  function readable(colour) {
    const ground = named("--surface");
    const least = isDark() ? 4.5 : 3;
    for (let share = 0; share < 1; share += 0.1) {
      const tried = mixed(colour, named("--text"), share);
      if (contrast(tried, ground) >= least) return tried;
    }
    return named("--text");
  }

  /** Have something done whenever light turns to dark, or dark to light. */
  const onChange = (listener) => listeners.push(listener);

  function label(button) {
    button.setAttribute("aria-pressed", String(isDark()));
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", "Dark colours");
    listeners.forEach((listener) => listener());
  }

  /** Let a button switch between light and dark. */
  function startButton(button) {
    button.hidden = false;
    label(button);
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      label(button);
    });
    dark.addEventListener("change", () => label(button));
  }

  return { named, readable, contrast, onChange, startButton };
})();
