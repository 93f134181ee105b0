SELECT origin FROM destinations WHERE id = :id
