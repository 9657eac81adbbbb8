// No handler sees a key while a word is composed (Japanese, Chinese, accents): that key belongs to the input method.
addEventListener("keydown", (event) => (event.isComposing || event.keyCode === 229) && event.stopPropagation(), true); // 229: Safari
