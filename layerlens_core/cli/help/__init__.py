"""What commands say of themselves beside their options."""
