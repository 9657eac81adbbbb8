"""Our backend for MariaDB and MySQL, by PyMySQL under the name that Django imports."""

import pymysql

pymysql.install_as_MySQLdb()
