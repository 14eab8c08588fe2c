from crattn_stage.cli import main

main()
