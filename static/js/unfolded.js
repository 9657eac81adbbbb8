// Without scripts, the server folds several activities into one line. <activity-folds> wants the rows as polls bring them.
for (const fold of document.querySelectorAll("#messages > .activity-fold")) fold.replaceWith(...fold.querySelectorAll("ol > li"));
