// Keys pressed while a word is composed do not reach any handler (Japanese, Chinese, accents): the input method uses them.
addEventListener("keydown", (event) => (event.isComposing || event.keyCode === 229) && event.stopPropagation(), true); // 229: Safari
